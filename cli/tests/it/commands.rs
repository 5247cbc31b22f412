//! `smallest completions`: what a shell makes of the script.

use crate::program::{run, smallest};
use tokio::process::Command;

#[tokio::test]
async fn bash_completes_the_commands() {
    let script = run(smallest(&["completions", "bash"]), &[]).await;
    assert_eq!(script.code, Some(0), "{script:?}");
    let mut bash = Command::new("bash");
    // What bash does when somebody types `smallest tr` and presses the tabulator.
    bash.args(["-c", r#"source /dev/stdin; COMP_WORDS=(smallest tr); COMP_CWORD=1
        "$(complete -p smallest | sed 's/.*-F \([^ ]*\).*/\1/')" smallest tr smallest; echo "${COMPREPLY[*]}""#]);
    bash.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let completed = run(bash, script.out.as_bytes()).await;
    assert_eq!(completed.out, "transcribe\n", "{completed:?}");
}

#[tokio::test]
async fn every_shell_has_a_script_and_others_are_named() {
    for shell in ["zsh", "fish", "elvish", "powershell"] {
        let said = run(smallest(&["completions", shell]), &[]).await;
        assert!(said.code == Some(0) && said.out.contains("transcribe"), "{shell}: {said:?}");
        assert!(!said.out.contains("launch"), "the hidden command is not offered: {shell}");
    }
    let said = run(smallest(&["completions", "tcsh"]), &[]).await;
    assert!(said.code == Some(2) && said.err.contains("bash"), "{said:?}");
}
