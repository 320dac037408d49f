//! Tests of the Python client on `dflock serve`.

use super::program::Program;
use super::python::interop;

#[tokio::test]
async fn all_operations_of_the_python_client_work() {
    interop(async |python| {
        let server = Program::dflock_serve(&[]).await;
        python
            .run_cases("client.py", &["--servers", &server.addr.to_string()], "")
            .await;
    })
    .await;
}

#[tokio::test]
async fn all_operations_of_the_python_client_work_on_three_servers() {
    interop(async |python| {
        let (one, two, three) = (
            Program::dflock_serve(&[]).await,
            Program::dflock_serve(&[]).await,
            Program::dflock_serve(&[]).await,
        );
        let servers = [&one, &two, &three]
            .map(|server| server.addr.to_string())
            .join(",");
        python
            .run_cases("client.py", &["--servers", &servers], "")
            .await;
    })
    .await;
}

// Covers bug N11. Each mistake has its own error.
#[tokio::test]
async fn the_python_client_must_authenticate() {
    interop(async |python| {
        // This token is longer than other lines of the protocol may be.
        let auth_token = "s3cret ".repeat(50) + "!";
        let server = Program::dflock_serve(&["--auth-token", &auth_token]).await;
        let open = Program::dflock_serve(&[]).await;
        let (server, open) = (server.addr.to_string(), open.addr.to_string());
        python
            .run_cases(
                "auth.py",
                &[
                    "--servers",
                    &server,
                    "--auth-token",
                    &auth_token,
                    "--open",
                    &open,
                ],
                "",
            )
            .await;
        python
            .run_cases(
                "client.py",
                &["--servers", &server, "--auth-token", &auth_token],
                "",
            )
            .await;
    })
    .await;
}

// Covers bugs S06, N7.
#[tokio::test]
async fn the_python_client_gets_an_error_of_a_full_server() {
    interop(async |python| {
        let server = Program::dflock_serve(&["--max-locks", "1000", "--max-waiters", "1"]).await;
        python
            .run_cases(
                "full.py",
                &["--servers", &server.addr.to_string(), "--keys", "1000"],
                "",
            )
            .await;
    })
    .await;
}
