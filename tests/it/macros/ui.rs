//! Compile tests of the attribute macros. The package `dflock-ui` has the valid functions.

#[test]
fn errors_are_reported_at_their_place() {
    trybuild::TestCases::new().compile_fail("ui/macros/*.rs");
}
