// AMX for processors without it: a library to preload, whose handler of SIGILL does what the
// instruction would have done, by the operations of Intel's Software Developer's Manual, volume 2.
//
// It knows LDTILECFG, TILERELEASE, TILEZERO, TILELOADD, TILESTORED and TDPBF16PS without legacy
// prefixes, palette 1, and needs AVX-512 itself. What it does not know, and what the manual lets
// fault, ends the process as it would without the library, with a line on stderr that says why.
//
// If AMX_EMULATOR_LOG names a file, each process adds a line to it at its exit: how many TDPBF16PS it
// has run.

#define _GNU_SOURCE
#include <errno.h>
#include <immintrin.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>
#include <unistd.h>

// Palette 1.
enum { TILES = 8, ROWS = 16, ROW_BYTES = 64 };

// Bytes past a tile's rows and columns are zero at all times.
struct tile {
    _Alignas(64) uint8_t row[ROWS][ROW_BYTES];
};

// The memory operand of LDTILECFG.
struct config {
    uint8_t palette, start_row, reserved[14];
    uint16_t colsb[16];
    uint8_t rows[16];
};
_Static_assert(sizeof(struct config) == 64, "LDTILECFG reads 64 bytes");

struct state {
    struct config config;
    struct tile tile[TILES];
};

// Of each thread; a handler must not allocate, so that it lies in the static block.
static _Thread_local struct state state __attribute__((tls_model("initial-exec")));
static atomic_ulong products;

// Faults are named by what the manual demands.
#define DEMAND(condition)                  \
    do {                                   \
        if (!(condition))                  \
            return "not so: " #condition;  \
    } while (0)

struct instruction {
    const uint8_t *next;
    // The bits that VEX adds to ModRM.reg, to the index, and to ModRM.rm or the base.
    uint8_t r, x, b;
    uint8_t vvvv, prefix, opcode, mod, reg, rm;
};

enum prefix { NP, P66, PF3, PF2 };

struct memory {
    bool sib;
    uint64_t begin, scaled_index;
};

static uint64_t value(const greg_t *registers, unsigned number) {
    static const int order[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP,
                                  REG_RSI, REG_RDI, REG_R8,  REG_R9,  REG_R10, REG_R11,
                                  REG_R12, REG_R13, REG_R14, REG_R15};
    return registers[order[number]];
}

// Base and displacement, and the index apart from them. Moves `next` behind the operand.
static struct memory operand(struct instruction *i, const greg_t *registers) {
    struct memory memory = {.sib = i->rm == 4};
    bool wide = i->mod == 2, relative = false;
    if (memory.sib) {
        uint8_t sib = *i->next++;
        unsigned index = i->x << 3 | (sib >> 3 & 7), base = sib & 7;
        if (index != 4)
            memory.scaled_index = value(registers, index) << (sib >> 6);
        if (base == 5 && i->mod == 0)
            wide = true;
        else
            memory.begin = value(registers, i->b << 3 | base);
    } else if (i->rm == 5 && i->mod == 0) {
        wide = relative = true;
    } else {
        memory.begin = value(registers, i->b << 3 | i->rm);
    }
    if (wide) {
        int32_t displacement;
        memcpy(&displacement, i->next, 4);
        i->next += 4;
        memory.begin += (int64_t)displacement;
    } else if (i->mod == 1) {
        memory.begin += (int64_t)(int8_t)*i->next++;
    }
    if (relative)
        memory.begin += (uint64_t)i->next;
    return memory;
}

// Whether a configuration may be loaded: else LDTILECFG is a general protection fault.
static const char *valid_config(const struct config *c) {
    static const uint8_t zero[32];
    DEMAND(c->palette <= 1);
    if (c->palette == 0)
        return NULL;
    DEMAND(!memcmp(c->reserved, zero, sizeof c->reserved));
    DEMAND(!memcmp(c->colsb + TILES, zero, 16) && !memcmp(c->rows + TILES, zero, 8));
    for (int t = 0; t < TILES; t++) {
        DEMAND(c->colsb[t] <= ROW_BYTES);
        DEMAND(c->rows[t] <= ROWS);
        DEMAND((c->colsb[t] == 0) == (c->rows[t] == 0));
    }
    return NULL;
}

static const char *valid_tile(unsigned t) {
    const struct config *c = &state.config;
    DEMAND(c->palette != 0);
    DEMAND(t < TILES && c->rows[t] != 0);
    return NULL;
}

static const char *valid_transfer(unsigned t) {
    const struct config *c = &state.config;
    const char *fault = valid_tile(t);
    if (fault)
        return fault;
    DEMAND(c->colsb[t] % 4 == 0);
    DEMAND(c->start_row < c->rows[t]);
    return NULL;
}

static const char *valid_product(unsigned dest, unsigned src1, unsigned src2) {
    const struct config *c = &state.config;
    DEMAND(dest != src1 && src1 != src2 && dest != src2);
    const unsigned tiles[] = {dest, src1, src2};
    for (int i = 0; i < 3; i++) {
        const char *fault = valid_tile(tiles[i]);
        if (fault)
            return fault;
        DEMAND(c->colsb[tiles[i]] % 4 == 0);
    }
    DEMAND(c->rows[dest] == c->rows[src1]);
    DEMAND(c->colsb[dest] == c->colsb[src2]);
    DEMAND(c->colsb[src1] / 4 == c->rows[src2]);
    return NULL;
}

// Two chains of fused multiply-adds for each sum, of the lower and of the upper halves of pairs; then
// both are added, and their sum to the old value. All of that under the caller's MXCSR.
__attribute__((noinline, target("avx512f"))) static void multiply(struct tile *dest,
                                                                  const struct tile *src1,
                                                                  const struct tile *src2, int m,
                                                                  int n, int k) {
    const __m512i high = _mm512_set1_epi32(0xffff0000);
    for (int r = 0; r < m; r++) {
        __m512 sums[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()};
        for (int i = 0; i < k; i++) {
            int32_t pair;
            memcpy(&pair, &src1->row[r][4 * i], 4);
            __m512i x = _mm512_set1_epi32(pair), y = _mm512_load_si512(src2->row[i]);
            __m512 low_x = _mm512_castsi512_ps(_mm512_slli_epi32(x, 16));
            __m512 low_y = _mm512_castsi512_ps(_mm512_slli_epi32(y, 16));
            __m512 high_x = _mm512_castsi512_ps(_mm512_and_si512(x, high));
            __m512 high_y = _mm512_castsi512_ps(_mm512_and_si512(y, high));
            sums[0] = _mm512_fmadd_ps(low_x, low_y, sums[0]);
            sums[1] = _mm512_fmadd_ps(high_x, high_y, sums[1]);
        }
        __m512 sum = _mm512_add_ps(sums[0], sums[1]);
        sum = _mm512_add_ps(_mm512_load_ps(dest->row[r]), sum);
        _mm512_store_ps(dest->row[r], _mm512_maskz_mov_ps((1u << n) - 1, sum));
    }
}

static void product(unsigned dest, unsigned src1, unsigned src2) {
    const struct config *c = &state.config;
    const unsigned before = _mm_getcsr();
    // To nearest even; denormals are zero on the way in and out; no exceptions.
    _mm_setcsr(_MM_MASK_MASK | _MM_FLUSH_ZERO_ON | _MM_DENORMALS_ZERO_ON);
    multiply(&state.tile[dest], &state.tile[src1], &state.tile[src2], c->rows[dest],
             c->colsb[dest] / 4, c->rows[src2]);
    _mm_setcsr(before);
    atomic_fetch_add_explicit(&products, 1, memory_order_relaxed);
}

// Runs the instruction at RIP and moves RIP behind it; or says why not. `signal` is what that raises.
static const char *run(greg_t *registers, int *signal) {
    const uint8_t *at = (const uint8_t *)registers[REG_RIP];
    *signal = SIGILL;
    // VEX with three bytes, map 0F38, W0, 128 bits.
    DEMAND(at[0] == 0xc4);
    DEMAND((at[1] & 0x1f) == 2);
    DEMAND((at[2] & 0x84) == 0);
    struct instruction i = {
        .next = at + 5,
        .r = !(at[1] & 0x80),
        .x = !(at[1] & 0x40),
        .b = !(at[1] & 0x20),
        .vvvv = ~(at[2] >> 3) & 15,
        .prefix = at[2] & 3,
        .opcode = at[3],
        .mod = at[4] >> 6,
        .reg = at[4] >> 3 & 7,
        .rm = at[4] & 7,
    };
    const bool direct = i.mod == 3;
    const unsigned reg = i.r << 3 | i.reg;
    struct config *c = &state.config;
    const char *fault;

    if (i.opcode == 0x49 && i.prefix == NP && direct) {
        // TILERELEASE
        DEMAND(i.vvvv == 0 && i.reg == 0 && i.rm == 0);
        memset(&state, 0, sizeof state);
    } else if (i.opcode == 0x49 && i.prefix == NP) {
        // LDTILECFG
        DEMAND(i.vvvv == 0 && i.reg == 0);
        const struct memory memory = operand(&i, registers);
        struct config config;
        memcpy(&config, (void *)(memory.begin + memory.scaled_index), sizeof config);
        if ((fault = valid_config(&config))) {
            *signal = SIGSEGV;
            return fault;
        }
        memset(&state, 0, sizeof state);
        if (config.palette != 0)
            *c = config;
    } else if (i.opcode == 0x49 && i.prefix == PF2 && direct) {
        // TILEZERO
        DEMAND(i.vvvv == 0 && i.rm == 0);
        if ((fault = valid_tile(reg)))
            return fault;
        memset(&state.tile[reg], 0, sizeof(struct tile));
        c->start_row = 0;
    } else if (i.opcode == 0x4b && (i.prefix == PF2 || i.prefix == PF3) && !direct) {
        // TILELOADD, TILESTORED
        DEMAND(i.vvvv == 0);
        const struct memory memory = operand(&i, registers);
        DEMAND(memory.sib);
        if ((fault = valid_transfer(reg)))
            return fault;
        struct tile *tile = &state.tile[reg];
        if (i.prefix == PF2)
            memset(tile->row[c->start_row], 0, (ROWS - c->start_row) * ROW_BYTES);
        for (; c->start_row < c->rows[reg]; c->start_row++) {
            void *there = (void *)(memory.begin + c->start_row * memory.scaled_index);
            void *here = tile->row[c->start_row];
            if (i.prefix == PF2)
                memcpy(here, there, c->colsb[reg]);
            else
                memcpy(there, here, c->colsb[reg]);
        }
        c->start_row = 0;
    } else if (i.opcode == 0x5c && i.prefix == PF3 && direct) {
        // TDPBF16PS
        const unsigned rm = i.b << 3 | i.rm;
        if ((fault = valid_product(reg, rm, i.vvvv)))
            return fault;
        product(reg, rm, i.vvvv);
        c->start_row = 0;
    } else {
        return "no instruction of AMX that it knows";
    }
    registers[REG_RIP] = (greg_t)i.next;
    return NULL;
}

static struct sigaction before;

static void handle(int number, siginfo_t *info, void *context) {
    const int saved = errno;
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    int signal_number = number;
    const char *fault = "sent by a process";
    if (info->si_code > 0)
        fault = run(registers, &signal_number);
    if (fault) {
        char line[200];
        int length = snprintf(line, sizeof line, "AMX emulator: at %#llx: %s\n",
                              (unsigned long long)registers[REG_RIP], fault);
        if (write(STDERR_FILENO, line, length) < 0) {
            // Then it goes unsaid.
        }
        // Illegal again on return, without this handler.
        sigaction(SIGILL, &before, NULL);
        if (signal_number == SIGSEGV)
            signal(SIGSEGV, SIG_DFL);
        if (info->si_code <= 0 || signal_number == SIGSEGV)
            raise(signal_number);
    }
    errno = saved;
}

__attribute__((constructor)) static void install(void) {
    struct sigaction action = {.sa_sigaction = handle, .sa_flags = SA_SIGINFO};
    sigemptyset(&action.sa_mask);
    sigaction(SIGILL, &action, &before);
}

__attribute__((destructor)) static void report(void) {
    const char *path = getenv("AMX_EMULATOR_LOG");
    FILE *log = path ? fopen(path, "a") : NULL;
    if (log) {
        fprintf(log, "%s %lu\n", program_invocation_short_name, atomic_load(&products));
        fclose(log);
    }
}
