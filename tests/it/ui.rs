//! Programs that must not compile, with the error messages of the compiler.

#[test]
fn invalid_state_transitions_do_not_compile() {
    let programs = trybuild::TestCases::new();
    programs.compile_fail("ui/*.rs");
    programs.pass("ui/pass/*.rs");
}
