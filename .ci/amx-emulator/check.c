// What the emulator must do, and where it must fault; to be run with it preloaded.

#include <math.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

struct config {
    uint8_t palette, start_row, reserved[14];
    uint16_t colsb[16];
    uint8_t rows[16];
};

// C is 5 x 7 sums, A is 5 x 3 pairs, B is 3 x 7 pairs; tile 7 is a whole one, tile 6 is none.
static const struct config mixed = {
    .palette = 1,
    .colsb = {28, 12, 28, 28, 64, 0, 0, 64},
    .rows = {5, 5, 3, 5, 16, 0, 0, 16},
};

static int failures;

#define EXPECT(condition)                                                \
    do {                                                                 \
        if (!(condition)) {                                              \
            failures++;                                                  \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
        }                                                                \
    } while (0)

static void configure(const struct config *config) {
    asm volatile("ldtilecfg %0" ::"m"(*config));
}

// The signal that ends `act` in a process of its own, or 0.
static int signal_of(void (*act)(void)) {
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        if (!freopen("/dev/null", "w", stderr))
            abort();
        act();
        _exit(0);
    }
    int status;
    waitpid(child, &status, 0);
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static float as_float(uint32_t bits) {
    float x;
    memcpy(&x, &bits, 4);
    return x;
}

static void products(void) {
    // Small integers: every order of sums is exact.
    uint16_t a[5][6], b[3][14];
    float c[5][7], expected[5][7];
    uint32_t bits;
    for (int i = 0; i < 5 * 6; i++) {
        float x = i * 7 % 11 - 5;
        memcpy(&bits, &x, 4);
        a[i / 6][i % 6] = bits >> 16;
    }
    for (int i = 0; i < 3 * 14; i++) {
        float x = i * 5 % 13 - 6;
        memcpy(&bits, &x, 4);
        b[i / 14][i % 14] = bits >> 16;
    }
    for (int r = 0; r < 5; r++)
        for (int n = 0; n < 7; n++) {
            expected[r][n] = c[r][n] = r - 3 * n;
            for (int k = 0; k < 6; k++)
                expected[r][n] += as_float(a[r][k] << 16) * as_float(b[k / 2][2 * n + k % 2] << 16);
        }
    configure(&mixed);
    asm volatile("tileloadd (%0, %1), %%tmm0\n"
                 "tileloadd (%2, %3), %%tmm1\n"
                 "tileloadd (%4, %1), %%tmm2\n"
                 "tdpbf16ps %%tmm2, %%tmm1, %%tmm0\n"
                 "tilestored %%tmm0, (%0, %1)" ::"r"(c),
                 "r"(28l), "r"(a), "r"(12l), "r"(b)
                 : "memory");
    EXPECT(!memcmp(c, expected, sizeof c));
    asm volatile("tilezero %%tmm0\n tilestored %%tmm0, (%0, %1)" ::"r"(c), "r"(28l) : "memory");
    for (int i = 0; i < 35; i++)
        EXPECT(c[i / 7][i % 7] == 0);
    asm volatile("tilerelease");
}

// One pair times one pair onto `c`.
static float pair(uint32_t a, uint32_t b, float c) {
    const struct config one = {.palette = 1, .colsb = {4, 4, 4}, .rows = {1, 1, 1}};
    configure(&one);
    asm volatile("tileloadd (%0), %%tmm0\n tileloadd (%1), %%tmm1\n tileloadd (%2), %%tmm2\n"
                 "tdpbf16ps %%tmm2, %%tmm1, %%tmm0\n tilestored %%tmm0, (%0)\n tilerelease" ::"r"(&c),
                 "r"(&a), "r"(&b)
                 : "memory");
    return c;
}

static void rounding(void) {
    const uint32_t one = 0x3f80, tiny = 0x0001;
    EXPECT(pair(one, one, 1) == 2);
    EXPECT(pair(one | 0x4000u << 16, one | 0x4040u << 16, 0) == 7);
    // Denormals are zero: of bfloat16, of the old sum, and of the product.
    EXPECT(pair(tiny, 0x7f00, 0) == 0);
    EXPECT(pair(0, 0, 0x1p-130f) == 0);
    EXPECT(pair(0x1f80, 0x1f80, 0) == 0);
    // Ties to even: 2^24 + 1 and 2^24 + 3.
    EXPECT(pair(one, one, 0x1p24f) == 0x1p24f);
    EXPECT(pair(one, one, 0x1p24f + 2) == 0x1p24f + 4);
    EXPECT(isnan(pair(0x7f80, 0, 0)) && isinf(pair(0x7f80, one, 0)));
}

// Every kind of operand: registers with and without REX bits, scales, displacements, no index, RIP.
static void operands(void) {
    static float from[64][16], to[16][16];
    for (int i = 0; i < 64 * 16; i++)
        from[i / 16][i % 16] = i;
    configure(&mixed);
#define LOADS(operand, base, index, offset, stride)                                                  \
    do {                                                                                             \
        register long b asm(base) = (long)from, i asm(index) = (stride);                             \
        asm volatile("tileloadd " operand ", %%tmm7" ::"r"(b), "r"(i) : "memory");                   \
        asm volatile("tilestored %%tmm7, (%0, %1)" ::"r"(to), "r"(64l) : "memory");                  \
        for (int r = 0; r < 16; r++)                                                                 \
            EXPECT(!memcmp(to[r], (char *)from + (offset) + r * (stride) * (scale), 64));            \
    } while (0)
    int scale = 1;
    LOADS("(%%rax, %%rcx)", "rax", "rcx", 0, 64l);
    LOADS("(%%r8, %%r9)", "r8", "r9", 0, 128l);
    LOADS("16(%%rdi, %%r15)", "rdi", "r15", 16, 32l);
    LOADS("-0(%%r13, %%rsi)", "r13", "rsi", 0, 64l);
    LOADS("1024(%%r12, %%rdx)", "r12", "rdx", 1024, 64l);
    LOADS("1024(%%rdx, %%r12)", "rdx", "r12", 1024, -64l);
    scale = 2;
    LOADS("64(%%rbx, %%r12, 2)", "rbx", "r12", 64, 32l);
    scale = 8;
    LOADS("4(%%r14, %%r11, 8)", "r14", "r11", 4, 16l);
    scale = 0;
    LOADS("64(%%r10)", "r10", "rcx", 64, 1l);
    // No base; and the configuration from the stack, with an index, and relative to RIP.
    asm volatile("tileloadd %c0(, %1, 2), %%tmm7\n tilestored %%tmm7, (%2, %3)" ::"i"(from), "r"(32l),
                 "r"(to), "r"(64l)
                 : "memory");
    EXPECT(!memcmp(to, from, sizeof to));
    struct config here[2] = {{0}, mixed};
    configure(&here[1]);
    asm volatile("ldtilecfg (%0, %1, 4)" ::"r"(here), "r"(16l) : "memory");
    asm volatile("jmp 2f\n .balign 64\n 1: .byte 1\n .fill 15\n .short 64\n .fill 30\n .byte 16\n"
                 ".fill 15\n 2: ldtilecfg 1b(%%rip)\n tilezero %%tmm0" ::
                     : "memory");
    asm volatile("tilerelease");
}

static void illegal(void) { asm volatile("ud2"); }
static void unconfigured(void) { asm volatile("tilezero %tmm0"); }
static void released(void) {
    configure(&mixed);
    asm volatile("tilerelease\n tilezero %tmm0");
}
static void empty_tile(void) {
    configure(&mixed);
    asm volatile("tilezero %tmm6");
}
static void same_tile(void) {
    configure(&mixed);
    // tdpbf16ps tmm7, tmm4, tmm4: the assembler knows better.
    asm volatile(".byte 0xc4, 0xe2, 0x5a, 0x5c, 0xfc");
}
static void other_shape(void) {
    configure(&mixed);
    asm volatile("tdpbf16ps %tmm1, %tmm2, %tmm0");
}
static void other_type(void) {
    configure(&mixed);
    asm volatile("tdpbssd %tmm2, %tmm1, %tmm0");
}
static void bad_config(void (*change)(struct config *)) {
    struct config config = mixed;
    change(&config);
    configure(&config);
}
static void palette(struct config *c) { c->palette = 2; }
static void reserved(struct config *c) { c->reserved[13] = 1; }
static void wide(struct config *c) { c->colsb[3] = 65; }
static void tall(struct config *c) { c->rows[3] = 17; }
static void half(struct config *c) { c->rows[3] = 0; }
static void ninth(struct config *c) { c->colsb[8] = 4, c->rows[8] = 1; }
static void bad_palette(void) { bad_config(palette); }
static void bad_reserved(void) { bad_config(reserved); }
static void bad_width(void) { bad_config(wide); }
static void bad_rows(void) { bad_config(tall); }
static void bad_half(void) { bad_config(half); }
static void bad_ninth(void) { bad_config(ninth); }
static void past_the_end(const char *how) {
    char *page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mprotect(page + 4096, 4096, PROT_NONE);
    configure(&mixed);
    char *at = page + 4096 - 16 * 64;
    if (*how == 'l')
        asm volatile("tileloadd (%0, %1), %%tmm7" ::"r"(at), "r"(64l) : "memory");
    if (*how == 's')
        asm volatile("tilestored %%tmm7, (%0, %1)" ::"r"(at), "r"(64l) : "memory");
    if (*how == 'L')
        asm volatile("tileloadd 4(%0, %1), %%tmm7" ::"r"(at), "r"(64l) : "memory");
    if (*how == 'S')
        asm volatile("tilestored %%tmm7, 4(%0, %1)" ::"r"(at), "r"(64l) : "memory");
}
static void loads_to_the_end(void) { past_the_end("l"); }
static void stores_to_the_end(void) { past_the_end("s"); }
static void loads_past_the_end(void) { past_the_end("L"); }
static void stores_past_the_end(void) { past_the_end("S"); }

static void faults(void) {
    void (*const invalid[])(void) = {illegal,   unconfigured, released,  empty_tile,
                                     same_tile, other_shape,  other_type};
    for (unsigned i = 0; i < sizeof invalid / sizeof *invalid; i++)
        EXPECT(signal_of(invalid[i]) == SIGILL || !fprintf(stderr, "fault %u\n", i));
    void (*const protected[])(void) = {bad_palette, bad_reserved,       bad_width, bad_rows, bad_half,
                                       bad_ninth,   loads_past_the_end, stores_past_the_end};
    for (unsigned i = 0; i < sizeof protected / sizeof *protected; i++)
        EXPECT(signal_of(protected[i]) == SIGSEGV || !fprintf(stderr, "fault %u\n", i));
    EXPECT(signal_of(loads_to_the_end) == 0);
    EXPECT(signal_of(stores_to_the_end) == 0);
}

int main(void) {
    products();
    rounding();
    operands();
    faults();
    return failures != 0;
}
