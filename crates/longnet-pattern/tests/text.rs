//! Block patterns as text and as tables.

#[path = "common/expressions.rs"]
mod expressions;

use expressions::any_pattern;
use longnet_pattern::{BlockGrid, BlockPattern, HeadEntry};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, PartialEq, Debug)]
struct Section {
    pattern: BlockPattern,
}

/// What text says of a pattern without parts: the same set has more than one expression then.
fn has_empty_parts(pattern: &BlockPattern) -> bool {
    match pattern {
        BlockPattern::Hierarchical(levels) => levels.is_empty(),
        BlockPattern::Blocks(pairs) => pairs.is_empty(),
        BlockPattern::Union(of) | BlockPattern::Intersection(of) => of.iter().any(has_empty_parts),
        BlockPattern::Difference { from, without } => {
            has_empty_parts(from) || has_empty_parts(without)
        }
        BlockPattern::Density { of, .. } => has_empty_parts(of),
        BlockPattern::Heads(entries) => entries.iter().any(|e| has_empty_parts(&e.pattern)),
        _ => false,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn text_reads_back_as_the_same(pattern in any_pattern()) {
        let text = pattern.to_string();
        let read: BlockPattern = text.parse().map_err(|e| TestCaseError::fail(format!("{text}: {e}")))?;
        prop_assert_eq!(read.to_string(), text.clone());
        if !has_empty_parts(&pattern) {
            prop_assert_eq!(&read, &pattern, "{}", text);
        }
        let grid = BlockGrid::square(150, 16);
        prop_assert_eq!(read.mask(4, grid, true).ok(), pattern.mask(4, grid, true).ok());
    }

    #[test]
    fn tables_read_back_as_the_same(pattern in any_pattern()) {
        let section = Section { pattern };
        let json = serde_json::to_string(&section).unwrap();
        prop_assert_eq!(&serde_json::from_str::<Section>(&json).unwrap(), &section);
        let toml = toml::to_string(&section).unwrap();
        prop_assert_eq!(&toml::from_str::<Section>(&toml).unwrap(), &section);
    }

    #[test]
    fn any_text_is_a_pattern_or_an_error_inside_of_it(text in "[ -~\\n\u{e9}]{0,40}") {
        if let Err(error) = text.parse::<BlockPattern>() {
            prop_assert!(error.column() <= text.chars().count() + 1);
            prop_assert!(error.line() <= text.matches('\n').count() + 1);
        }
    }

    #[test]
    fn any_row_of_words_is_a_pattern_or_an_error(words in prop::collection::vec(prop::sample::select(vec![
        "window", "(", ")", "1024", "|", "&", "-", "[", "]", ",", "x", "branches", "/", "density", "0.5", "=",
        "seed", "all", "dilated", "blocks", ":", "heads", "grouped", "random", "99999999999999999999",
    ]), 0..30)) {
        let _ = words.join(" ").parse::<BlockPattern>().map(|pattern| pattern.mask(2, BlockGrid::square(100, 7), true));
    }

    #[test]
    fn cut_and_changed_texts_do_not_panic(pattern in any_pattern(), at in any::<prop::sample::Index>(), c in any::<char>()) {
        let mut chars: Vec<char> = pattern.to_string().chars().collect();
        let at = at.index(chars.len());
        chars[at] = c;
        let _ = chars.iter().collect::<String>().parse::<BlockPattern>();
        let _ = chars[..at].iter().collect::<String>().parse::<BlockPattern>();
    }
}

#[test]
#[allow(clippy::precedence, reason = "precedence is what is tested")]
fn operators_bind_as_in_rust() {
    let [a, b, c, d] = [1, 2, 3, 4].map(BlockPattern::Window);
    let read = |short: &str| {
        let name = |x: char| match x {
            'a'..='d' => format!("window({})", x as u32 - 'a' as u32 + 1),
            other => other.to_string(),
        };
        let text: String = short.chars().map(name).collect();
        text.parse::<BlockPattern>().unwrap()
    };
    let (a, b, c, d) = (|| a.clone(), || b.clone(), || c.clone(), || d.clone());
    assert_eq!(read("(a | b) & c - d"), (a() | b()) & c() - d());
    assert_eq!(read("a | b & c - d"), a() | b() & c() - d());
    assert_eq!(read("a - b - c"), a() - b() - c());
    assert_eq!(read("a - (b - c)"), a() - (b() - c()));
    assert_eq!(read("a | b | c | d"), a() | b() | c() | d());
    assert_eq!(read("a | (b | c)"), a() | (b() | c()));
    assert_eq!(read("((a)) & (b | c)"), a() & (b() | c()));
    let entry = |pattern, heads| HeadEntry { pattern, heads };
    assert_eq!(
        read("[a | b x 3, c,]"),
        BlockPattern::Heads(vec![entry(a() | b(), 3), entry(c(), 1)])
    );
    assert_eq!(
        read("[a x12,b x 4]"),
        BlockPattern::by_head([(a(), 12), (b(), 4)])
    );
}

#[test]
fn a_target_of_minus_zero_reads_back() {
    let pattern = BlockPattern::Density {
        of: Box::new(BlockPattern::All),
        target: -0.0,
        seed: 0,
    };
    assert_eq!(pattern.to_string(), "density(all, 0)");
    assert_eq!(
        pattern.to_string().parse::<BlockPattern>().unwrap(),
        pattern
    );
}

#[test]
fn arguments_have_names_and_presets_are_compositions() {
    let same = |a: &str, b: &str| {
        assert_eq!(
            a.parse::<BlockPattern>().unwrap(),
            b.parse::<BlockPattern>().unwrap()
        );
    };
    same("random(3, 7)", "random(seed = 7, blocks = 3)");
    same("window(1_024)", " window ( tokens=1024 ) ");
    same("dilated(2, 3)", "dilated(rates = [2], reach = 3)");
    same(
        "bigbird(1024, 128, 3)",
        "window(1024) | global(128) | random(3)",
    );
    same(
        "longformer(global = 64, window = 512)",
        "window(512) | global(64)",
    );
    same("streaming(64, 512)", "sink(64) | window(512)");
    same(
        "density(all, 1)",
        "density(of = all, target = 1.0, seed = 0)",
    );
    same(
        "branches(8/1, 16/2, heads = grouped)",
        "branches(8/1, 16/2, heads = grouped, tail = masked)",
    );
}

#[test]
fn tables_and_texts_mix() {
    let read = |toml: &str| toml::from_str::<Section>(toml).map(|section| section.pattern);
    let window = BlockPattern::longformer(1024, 128);
    for text in [
        "pattern = 'window(1024) | global(128)'",
        "pattern = { union = [{ window = 1024 }, { global = 128 }] }",
        "pattern = { union = ['window(1024)', { global = 128 }] }",
        "[pattern]\nunion = ['window(1024)', 'global(128)']",
    ] {
        assert_eq!(read(text).unwrap(), window, "{text}");
    }
    for (toml, text) in [
        ("pattern = 'all'", "all"),
        (
            "pattern = { heads = [{ pattern = 'window(8)', heads = 3 }, { pattern = { sink = 8 } }] }",
            "[window(8) x 3, sink(8)]",
        ),
        (
            "pattern = { hierarchical = [{ stride = 64, window = 256 }, { stride = 512 }] }",
            "hierarchical(64/256, 512/all)",
        ),
        (
            "pattern = { branches = { branches = [{ segment = 64, dilation = 2 }], head_offset = 'by-group' } }",
            "branches(64/2, offset = by_group)",
        ),
        ("pattern = { random = { blocks = 3 } }", "random(3)"),
        (
            "pattern = { difference = { from = 'all', without = 'window(9)' } }",
            "all - window(9)",
        ),
    ] {
        assert_eq!(read(toml).unwrap().to_string(), text);
    }
    let error = |toml: &str| read(toml).unwrap_err().to_string();
    assert!(error("pattern = 'windw(8)'").contains("did you mean 'window'?"));
    assert!(error("pattern = { windw = 8 }").contains("unknown variant `windw`"));
    assert!(error("pattern = 8").contains("a pattern: text such as"));
    assert!(error("pattern = { random = { block = 3 } }").contains("unknown field `block`"));
}

#[test]
fn errors_show_the_place_and_a_remedy() {
    for (text, message) in [
        (
            "windw(8)",
            "unknown pattern 'windw' at column 1; did you mean 'window'?",
        ),
        (
            "window(8) | Global(8)",
            "unknown pattern 'Global' at column 13; did you mean 'global'?",
        ),
        (
            "zzz",
            "unknown pattern 'zzz' at column 1; use one of all, empty, window, dilated",
        ),
        (
            "",
            "unexpected the end at column 1; give a pattern, such as window(1024)",
        ),
        (
            "window",
            "unexpected the end at column 7; write window(1024)",
        ),
        (
            "window()",
            "'tokens' is missing for 'window' at column 8; write window(1024)",
        ),
        (
            "window(8",
            "unexpected the end at column 9; go on with ',' or ')'",
        ),
        (
            "window(8, 9)",
            "too many arguments of 'window' at column 11; write window(1024)",
        ),
        (
            "window(8) global(8)",
            "unexpected 'global' at column 11; join patterns with |, & or -",
        ),
        (
            "window(-8)",
            "unexpected '-' at column 8; give a whole number",
        ),
        (
            "window(8k)",
            "unexpected 'k' at column 9; go on with ',' or ')'",
        ),
        (
            "window(1.5)",
            "unexpected '1.5' at column 8; give a whole number",
        ),
        (
            "window(999999999999999999999)",
            "unexpected '999999999999999999999' at column 8; give a number up to 281474976710656",
        ),
        (
            "random(3, sed = 1)",
            "'random' has no argument 'sed' at column 11; did you mean 'seed'?",
        ),
        (
            "random(blocks = 3, 4)",
            "unexpected '4' at column 20; give arguments without a name before",
        ),
        (
            "random(3, blocks = 3)",
            "a second value for 'blocks' at column 11; give each argument once",
        ),
        (
            "density(all, 1.5)",
            "unexpected '1.5' at column 14; give a share of the blocks from 0 to 1",
        ),
        (
            "branches(8)",
            "unexpected ')' at column 11; write branches(2048/1, 4096/2)",
        ),
        (
            "branches(8/1, heads = some)",
            "unexpected 'some' at column 23; 'heads' is all or grouped",
        ),
        (
            "(all",
            "unexpected the end at column 5; close the parenthesis with ')'",
        ),
        (
            "[all x 0]",
            "an entry for 0 heads at column 8; give at least 1",
        ),
        (
            "[all x4k]",
            "unexpected 'x4k' at column 6; give a number of heads, such as x 4",
        ),
        (
            "[all y]",
            "unexpected 'y' at column 6; go on with ',', a number of heads",
        ),
        ("[all x 4", "unexpected the end at column 9; go on with ','"),
        (
            "all\n| é",
            "unexpected character 'é' at line 2, column 3; patterns are names",
        ),
    ] {
        let error = text.parse::<BlockPattern>().unwrap_err().to_string();
        assert!(error.starts_with(message), "{error}");
    }
}

#[test]
fn long_and_deep_texts_are_refused() {
    let long = "all | ".repeat(20_000) + "all";
    let error = long.parse::<BlockPattern>().unwrap_err().to_string();
    assert!(
        error.starts_with("a pattern of 120003 bytes at column 1; write at most 65536"),
        "{error}"
    );
    for deep in [
        "(".repeat(60_000),
        "[".repeat(60_000),
        "density(".repeat(8000),
        "(all - ".repeat(9000),
        "all - ".repeat(9000) + "all",
        "(".repeat(100) + "all" + &")".repeat(100),
        "(all | ".repeat(70) + "all" + &")".repeat(70),
    ] {
        let error = deep.parse::<BlockPattern>().unwrap_err().to_string();
        assert!(error.starts_with("more than 64 levels"), "{error}");
    }
    // As deep as an expression may be.
    let most = (0..31).fold(BlockPattern::All, |x, at| match at % 2 {
        0 => BlockPattern::Window(1) - (x | BlockPattern::Sink(1)),
        _ => BlockPattern::Window(1) & (x | BlockPattern::Sink(1)),
    });
    most.check(1).unwrap();
    assert_eq!(most.to_string().parse(), Ok(most));
    let long = "all | ".repeat(9000) + "all";
    assert!(long.parse::<BlockPattern>().is_ok());
}
