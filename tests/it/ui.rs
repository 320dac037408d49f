//! Programs that must not compile, with the error messages of the compiler. The package `dflock-ui`
//! has those that must compile: with one of them, trybuild builds all dependencies and each program
//! alone, instead of one `cargo check` of all.

#[test]
fn invalid_state_transitions_do_not_compile() {
    trybuild::TestCases::new().compile_fail("ui/*.rs");
}
