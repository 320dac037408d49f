//! Programs that must not compile, with the error messages of the compiler.
//!
//! They need one `cargo check`. With programs that must compile, trybuild would build all
//! dependencies, and each program alone.

#[test]
fn invalid_state_transitions_do_not_compile() {
    trybuild::TestCases::new().compile_fail("*.rs");
}

#[test]
fn errors_of_attributes_are_reported_at_their_place() {
    trybuild::TestCases::new().compile_fail("macros/*.rs");
}
