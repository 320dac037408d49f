//! Compile tests of the attribute macros.

#[test]
fn valid_functions_compile_and_errors_are_reported_at_their_place() {
    let programs = trybuild::TestCases::new();
    programs.pass("ui/macros/pass/*.rs");
    programs.compile_fail("ui/macros/*.rs");
}
