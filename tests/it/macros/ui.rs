//! What the attribute macros take, and what they say of what they do not take.

#[test]
fn annotated_functions_compile_and_mistakes_are_reported_where_they_are() {
    let programs = trybuild::TestCases::new();
    programs.pass("ui/macros/pass/*.rs");
    programs.compile_fail("ui/macros/*.rs");
}
