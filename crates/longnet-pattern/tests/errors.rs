//! A pattern that cannot work does not build, and the error says which branch, which value, what to do.

use longnet_pattern::{DilatedPattern, HeadAssignment, PatternError, Span, Tail};

#[test]
fn errors_name_the_branch_the_value_and_the_remedy() {
    let build = |heads, branches: &[(usize, usize)]| {
        DilatedPattern::new(heads, branches.iter().copied())
            .build()
            .unwrap_err()
            .to_string()
    };
    assert!(build(0, &[(8, 1)]).starts_with("heads is 0; give"));
    assert!(build(1, &[]).contains("no branches; give at least one"));
    assert!(build(1, &[(8, 1), (0, 2)]).starts_with("branch 1: segment length 0 is outside"));
    assert!(
        build(1, &[(8, 1), (8, 2), (8, 0)]).starts_with("branch 2: dilation rate 0 is outside")
    );
    assert!(build(1, &[(usize::MAX, 1)]).contains("segment length 18446744073709551615"));
    let lists = DilatedPattern::from_lists(1, &[8, 16], &[1]).unwrap_err();
    assert_eq!(
        lists,
        PatternError::UnequalLists {
            segments: 2,
            dilations: 1
        }
    );
}

#[test]
fn zero_keys_need_one_whole_sequence() {
    let pattern = DilatedPattern::new(2, [(8, 2)])
        .tail(Tail::ZeroKeys)
        .build()
        .unwrap();
    assert!(pattern.schedule(Span::full(7)).is_ok());
    let error = pattern
        .schedule(Span::decode(1, 7))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("queries are 6..7 and keys 0..7; use tail = Masked"),
        "{error}"
    );
}

#[test]
fn positions_past_the_limit_are_an_error() {
    let pattern = DilatedPattern::new(2, [(8, 2)]).build().unwrap();
    let span = Span {
        q_start: usize::MAX - 1,
        n_q: 4,
        ..Span::full(8)
    };
    let error = pattern.schedule(span).unwrap_err().to_string();
    assert!(
        error.starts_with("queries at positions from 18446744073709551614, 4 of them"),
        "{error}"
    );
}

#[test]
fn warnings_name_heads_that_see_nothing_and_branches_without_heads() {
    let blind = DilatedPattern::new(4, [(2, 4)]).build().unwrap();
    let text = blind.warnings(10).join("\n");
    assert!(
        text.contains("branch 0 (segment 2, dilation 4): heads [2, 3] have an offset"),
        "{text}"
    );
    assert!(
        text.contains("head 0: 5 of 10 rows are covered by no branch"),
        "{text}"
    );

    let idle = DilatedPattern::new(1, [(8, 1), (16, 2)])
        .head_assignment(HeadAssignment::Grouped)
        .build()
        .unwrap();
    assert!(
        idle.warnings(32)
            .join("\n")
            .contains("branch 1 (segment 16, dilation 2) has no heads")
    );

    assert!(
        DilatedPattern::new(4, [(8, 1), (16, 2)])
            .build()
            .unwrap()
            .warnings(100)
            .is_empty()
    );
}

#[test]
fn explain_lists_the_keys_of_each_branch() {
    let pattern = DilatedPattern::new(4, [(8, 1), (16, 2), (3, 5)])
        .causal(true)
        .build()
        .unwrap();
    let text = pattern.explain(1, 13);
    assert!(
        text.contains(
            "branch 0 (segment 8, dilation 1): 6 keys of segment 8..16: 8, 9, 10, 11, ..., 13"
        ),
        "{text}"
    );
    assert!(
        text.contains(
            "branch 1 (segment 16, dilation 2): 7 keys of segment 0..16: 1, 3, 5, 7, ..., 13"
        ),
        "{text}"
    );
    assert!(
        text.contains("branch 2 (segment 3, dilation 5): 1 keys of segment 12..15: 13"),
        "{text}"
    );
    assert!(text.contains("14 keys in all"), "{text}");
    let blind = pattern.explain(3, 12);
    assert!(blind.contains("off the residue 1 mod 2"), "{blind}");
    assert!(
        blind.contains("offset is not below the segment length 3"),
        "{blind}"
    );
}
