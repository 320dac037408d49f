//! Shell completions, man pages and help texts.

use crate::process::{dflock, output_of, status, text};

#[tokio::test]
async fn each_shell_has_completions() {
    for shell in ["bash", "zsh", "fish"] {
        let output = output_of(&mut dflock(&["completions", shell])).await;
        assert_eq!(status(&output), 0, "{shell}");
        let script = text(&output.stdout);
        for word in ["dflock", "run", "stats", "serve", "fencing"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
        // The internal commands are not offered.
        assert!(
            !script.contains("__exec") && !script.contains("__watchdog"),
            "{shell}"
        );
    }
}

#[tokio::test]
async fn each_command_has_a_man_page_and_help() {
    for (command, words) in [
        ("", &["run", "stats", "serve"][..]),
        ("run", &["grace", "DFLOCK_TOKEN", "76"]),
        ("stats", &["watch"]),
    ] {
        let args: Vec<_> = ["man", command]
            .into_iter()
            .filter(|arg| !arg.is_empty())
            .collect();
        let page = output_of(&mut dflock(&args)).await;
        assert_eq!(status(&page), 0, "{command}");
        assert!(
            text(&page.stdout).contains(".TH dflock"),
            "{command}: {}",
            text(&page.stdout)
        );

        let args: Vec<_> = [command, "--help"]
            .into_iter()
            .filter(|arg| !arg.is_empty())
            .collect();
        let help = output_of(&mut dflock(&args)).await;
        assert_eq!(status(&help), 0, "{command}");
        for word in words {
            assert!(
                text(&page.stdout).contains(word) && text(&help.stdout).contains(word),
                "{command}: {word}"
            );
        }
    }
}
