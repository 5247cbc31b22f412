//! Processes of a local service: none is left, none is started twice, none takes somebody's port.

use e2e::service::{gone, up_command};
use e2e::{Resource, Service};
use nix::sys::signal::Signal;
use std::net::TcpListener;

#[tokio::test]
async fn ctrl_c_leaves_no_process() -> anyhow::Result<()> {
    let mut service = Service::start(&Resource::default()).await?;
    let pids = service.pids();
    assert_eq!(pids.len(), 5, "redis, license proxy, worker, gateway and smallest itself");
    service.signal_up(Signal::SIGINT)?;
    assert!(service.ended().await?.success());
    gone(&pids).await?;
    assert!(service.state().is_none());
    Ok(())
}

#[tokio::test]
async fn a_killed_supervisor_leaves_no_process() -> anyhow::Result<()> {
    let mut service = Service::start(&Resource::default()).await?;
    let pids = service.pids();
    service.signal_up(Signal::SIGKILL)?;
    service.ended().await?;
    gone(&pids).await
}

#[tokio::test]
async fn a_second_up_of_the_same_deployment_names_the_first() -> anyhow::Result<()> {
    let service = Service::start(&Resource::default()).await?;
    let dir = service.state_dir().join("..");
    let second = up_command(&service.file(), &dir, &["--ports", "free"])?.output().await?;
    let message = String::from_utf8(second.stderr)?;
    assert_eq!(second.status.code(), Some(6), "{message}");
    assert!(message.contains("already runs") && message.contains("process"), "{message}");
    Ok(())
}

#[tokio::test]
async fn a_taken_port_is_named_with_its_holder() -> anyhow::Result<()> {
    let holder = TcpListener::bind(("127.0.0.1", 0))?;
    let port = holder.local_addr()?.port();
    let dir = tempfile::tempdir()?;
    let file = Resource::default().write(dir.path())?;
    let text = std::fs::read_to_string(&file)?;
    std::fs::write(
        &file,
        text.replace("  gateway:\n", &format!("  gateway:\n    service: {{port: {port}}}\n")),
    )?;
    let up = up_command(&file, dir.path(), &[])?.output().await?;
    let message = String::from_utf8(up.stderr)?;
    // Another service of this machine may hold the default port of Redis; either way a port is named.
    assert_eq!(up.status.code(), Some(6), "{message}");
    assert!(message.contains(" is taken by ") && message.contains("port "), "{message}");
    drop(holder);
    Ok(())
}

#[tokio::test]
async fn a_command_runs_against_the_service_and_decides_the_exit_code() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let file = Resource::default().write(dir.path())?;
    let script = "echo url=$SMALLEST_URL; exit 9";
    let up = up_command(&file, dir.path(), &["--ports", "free", "--", "sh", "-c", script])?.output().await?;
    assert_eq!(up.status.code(), Some(9), "{}", String::from_utf8_lossy(&up.stderr));
    assert!(String::from_utf8(up.stdout)?.contains("url=http://127.0.0.1:"));
    Ok(())
}
