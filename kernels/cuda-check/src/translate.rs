//! From CUDA C++ as CubeCL emits it to C++ of the host: inline PTX becomes calls of functions named
//! after the instruction, includes become those of the emulator.

/// Headers of CUDA whose part in emitted kernels the emulator's header plays.
const HEADERS: [&str; 6] = [
    "cuda_fp16.h",
    "cuda_bf16.h",
    "mma.h",
    "cuda/barrier",
    "cooperative_groups.h",
    "cooperative_groups/memcpy_async.h",
];

/// The PTX of CubeCL's election of one lane.
const ELECT: [&str; 4] = [
    ".reg .pred %px",
    ".reg .b32 mask",
    "activemask.b32 mask",
    "elect.sync _|%px, mask",
];

/// The host's source for a kernel's, whose entry point is `entry`, on an architecture `arch` (80 for
/// sm_80).
///
/// # Errors
///
/// What the emulator does not know, in words.
pub fn translate(source: &str, entry: &str, arch: u32) -> Result<String, String> {
    let mut out = format!("#include \"cuda_emulator.h\"\n#define __CUDA_ARCH__ {arch}0\n");
    // CUDA's own integers are not the host's: they stand in a namespace.
    out.push_str("namespace kernel {\n");
    let mut rest = source;
    while let Some((before, found)) = next(rest) {
        out.push_str(before);
        rest = &rest[before.len()..];
        match found {
            Found::Comment(length) => {
                out.push_str(&rest[..length]);
                rest = &rest[length..];
            }
            Found::Include => {
                let line = rest.lines().next().unwrap_or_default();
                let header = line
                    .trim_start_matches("#include")
                    .trim()
                    .trim_start_matches('<')
                    .trim_end_matches('>');
                if !HEADERS.contains(&header) {
                    return Err(format!("the header {header}"));
                }
                rest = &rest[line.len()..];
            }
            Found::Shared => {
                let end = rest.find(';').ok_or("shared memory without an end")?;
                out.push_str(&shared(&rest[..end])?);
                rest = &rest[end..];
            }
            Found::Asm => {
                let open = rest.find('(').ok_or("asm without operands")?;
                let length = closing(&rest[open..]).ok_or("asm without an end")?;
                out.push_str(&assembly(&rest[open + 1..open + length])?);
                rest = &rest[open + length + 1..];
                let end = rest.find(';').ok_or("asm without a semicolon")?;
                rest = &rest[end + 1..];
            }
        }
    }
    out.push_str(rest);
    out.push_str(&format!(
        "\n}}  // namespace kernel\n\nextern \"C\" __attribute__((visibility(\"default\"))) int \
         emulator_launch(const emulator::Launch* launch) {{\n    return \
         emulator::launch_kernel<&kernel::{entry}>(launch);\n}}\n"
    ));
    Ok(out)
}

enum Found {
    /// Text of this many bytes in which nothing is looked for.
    Comment(usize),
    Include,
    Shared,
    Asm,
}

/// The next place that is rewritten, and what stands before it.
fn next(text: &str) -> Option<(&str, Found)> {
    let bytes = text.as_bytes();
    let mut at = 0;
    let mut word_before = false;
    while at < bytes.len() {
        let rest = &text[at..];
        let starts = !word_before;
        let found = if rest.starts_with("//") {
            Some(Found::Comment(rest.find('\n').unwrap_or(rest.len())))
        } else if rest.starts_with("/*") {
            Some(Found::Comment(
                rest.find("*/").map_or(rest.len(), |end| end + 2),
            ))
        } else if rest.starts_with('"') {
            Some(Found::Comment(string(rest)))
        } else if starts && rest.starts_with("#include") {
            Some(Found::Include)
        } else if starts && rest.starts_with("extern __shared__") {
            Some(Found::Shared)
        } else if starts && is_word(rest, "asm") {
            Some(Found::Asm)
        } else {
            None
        };
        if let Some(found) = found {
            return Some((&text[..at], found));
        }
        let character = rest.chars().next().expect("not at the end");
        word_before = character.is_alphanumeric() || character == '_';
        at += character.len_utf8();
    }
    None
}

/// Whether `text` starts with `word` and goes on with something else.
fn is_word(text: &str, word: &str) -> bool {
    text.strip_prefix(word)
        .is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_'))
}

/// The length of the string literal that `text` starts with, quotes included.
fn string(text: &str) -> usize {
    let mut escaped = false;
    for (at, character) in text.char_indices().skip(1) {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// Where the bracket that `text` starts with is closed.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 0usize;
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        if rest.starts_with('"') {
            at += string(rest);
            continue;
        }
        let character = rest.chars().next()?;
        match character {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => {
                depth -= 1;
                if depth == 0 {
                    return Some(at);
                }
            }
            _ => {}
        }
        at += character.len_utf8();
    }
    None
}

/// `text` between `separator`s that stand in no bracket and no string.
fn split(text: &str, separator: char) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut depth, mut start, mut at) = (0usize, 0, 0);
    while at < text.len() {
        let rest = &text[at..];
        if rest.starts_with('"') {
            at += string(rest);
            continue;
        }
        let character = rest.chars().next().expect("not at the end");
        match character {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            _ if character == separator && depth == 0 => {
                parts.push(text[start..at].trim());
                start = at + character.len_utf8();
            }
            _ => {}
        }
        at += character.len_utf8();
    }
    parts.push(text[start..].trim());
    parts
}

/// `extern __shared__ __align__(16) char name[]`, without its end.
fn shared(text: &str) -> Result<String, String> {
    let unknown = || format!("shared memory declared as `{text}`");
    let rest = text.trim_start_matches("extern __shared__").trim();
    let rest = rest.strip_prefix("__align__(").ok_or_else(unknown)?;
    let (alignment, rest) = rest.split_once(')').ok_or_else(unknown)?;
    let name = rest.trim().strip_prefix("char ").ok_or_else(unknown)?;
    let name = name.trim().strip_suffix("[]").ok_or_else(unknown)?;
    Ok(format!(
        "char* const {name} = ::emulator::dynamic_shared({alignment})"
    ))
}

/// What stands in the brackets of an `asm`.
fn assembly(text: &str) -> Result<String, String> {
    let text = text.trim();
    let length = string(text);
    let template = unescape(text.get(1..length - 1).ok_or("asm without a template")?);
    let operands: Vec<&str> = split(text[length..].trim().trim_start_matches(':'), ':')
        .into_iter()
        .take(2)
        .flat_map(|list| split(list, ','))
        .filter(|operand| !operand.is_empty())
        .map(|operand| expression(operand).ok_or_else(|| format!("the operand {operand}")))
        .collect::<Result<_, String>>()?;

    let instructions: Vec<String> = template
        .split([';', '\n'])
        .map(|line| {
            line.split_whitespace()
                .collect::<Vec<_>>()
                .join(" ")
                .replace("%%", "%")
        })
        .filter(|line| !line.is_empty() && line != "{" && line != "}")
        .collect();
    if is_election(&instructions) {
        let elected = operands.first().ok_or("elect.sync without a result")?;
        return Ok(format!("::emulator::ptx::elect(__LINE__, {elected});"));
    }
    let calls: Vec<String> = instructions
        .iter()
        .map(|line| instruction(line, &operands).ok_or_else(|| format!("the PTX `{line}`")))
        .collect::<Result<_, String>>()?;
    Ok(calls.join(" "))
}

/// Whether these are CubeCL's instructions to elect a lane, whose result is the first operand.
fn is_election(instructions: &[String]) -> bool {
    let plain = |line: &String| line.replace("%mask", "mask").replace("{ ", "");
    instructions.len() == ELECT.len() + 1
        && instructions
            .iter()
            .map(plain)
            .zip(ELECT.iter().copied().chain(["selp.b32 %0, 1, 0, %px"]))
            .all(|(line, known)| line == known)
}

/// The expression of `"=r"(expression)`.
fn expression(operand: &str) -> Option<&str> {
    let rest = operand[string(operand)..].trim();
    rest.strip_prefix('(')?.strip_suffix(')')
}

/// A call that stands for one instruction.
fn instruction(line: &str, operands: &[&str]) -> Option<String> {
    let (opcode, arguments) = line.split_once(' ').unwrap_or((line, ""));
    // Predicates, labels, directives, registers of its own.
    if !opcode.starts_with(|c: char| c.is_ascii_lowercase()) || opcode.contains(['%', '{']) {
        return None;
    }
    let function: String = opcode
        .replace("::", "_")
        .chars()
        .map(|c| if c == '.' { '_' } else { c })
        .collect();
    let mut flat = vec!["__LINE__".to_string()];
    for argument in split(arguments, ',').into_iter().filter(|a| !a.is_empty()) {
        let inner = match argument.as_bytes() {
            [b'{', .., b'}'] | [b'[', .., b']'] => &argument[1..argument.len() - 1],
            _ => argument,
        };
        for part in split(inner, ',') {
            flat.push(if let Some(number) = part.strip_prefix('%') {
                format!("({})", operands.get(number.parse::<usize>().ok()?)?)
            } else if part.parse::<u32>().is_ok() {
                part.to_string()
            } else {
                return None;
            });
        }
    }
    Some(format!("::emulator::ptx::{function}({});", flat.join(", ")))
}

/// The text of a string literal's inside.
fn unescape(text: &str) -> String {
    let mut out = String::new();
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        if character != '\\' {
            out.push(character);
            continue;
        }
        match characters.next() {
            Some('n') => out.push('\n'),
            Some('t') => out.push('\t'),
            Some(other) => out.push(other),
            None => {}
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_become_calls() {
        let text = r#""mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1}, {%2}, %3;" : "=f"(result.i_0), "=f"(result.i_1) : "r"(a.i_0), "r"(f(x, y)) "#;
        assert_eq!(
            assembly(text).unwrap(),
            "::emulator::ptx::mma_sync_aligned_m16n8k16_row_col_f32_bf16_bf16_f32(__LINE__, \
             (result.i_0), (result.i_1), (a.i_0), (f(x, y)));"
        );
        let text =
            r#""cp.async.cg.shared::cta.global [%0], [%1], 16, 16;" :  : "r"(to), "l"(from) "#;
        assert_eq!(
            assembly(text).unwrap(),
            "::emulator::ptx::cp_async_cg_shared_cta_global(__LINE__, (to), (from), 16, 16);"
        );
    }

    #[test]
    fn what_is_unknown_is_refused() {
        for (text, what) in [
            (r#"asm("@%p bra done;" : : "r"(x));"#, "@%p bra done"),
            ("#include <cuda_fp8.h>\n", "cuda_fp8.h"),
            ("extern __shared__ float tile[];", "shared memory"),
        ] {
            let error = translate(text, "entry", 80).unwrap_err();
            assert!(error.contains(what), "{error}");
        }
    }

    #[test]
    fn comments_and_names_are_left_alone() {
        let text = "// asm(nothing)\nint plasma = 1; /* #include <x> */\n";
        assert!(translate(text, "entry", 80).unwrap().contains(text));
    }
}
