//! Mistakes that must not compile, each with the message that the user sees.

#[test]
fn mistakes_do_not_compile() {
    let programs = trybuild::TestCases::new();
    programs.compile_fail("ui/*.rs");
    programs.pass("ui/pass/*.rs");
}
