//! On the machine of its coordinator squall needs no access file: it finds the unix socket.

mod fake;

use axum::Router;
use axum::http::HeaderMap;
use axum::routing::post;
use fake::{squall, stderr, stdout};

#[test]
fn squall_finds_the_socket_by_itself_sends_no_token_there_and_passes_over_a_dead_one() {
    if std::path::Path::new("/run/squall").exists() {
        let test = "squall_finds_the_socket_by_itself_sends_no_token_there_and_passes_over_a_dead_one";
        fake::skip::skip(test, "this machine has a coordinator of its own (/run/squall)");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let home = directory.path().join(".squall");
    std::fs::create_dir(&home).unwrap();
    let ask = |arguments: &[&str]| {
        let mut command = squall(arguments);
        command.current_dir(directory.path()).env_remove("SQUALL_ACCESS").env("XDG_RUNTIME_DIR", directory.path());
        command.output().unwrap()
    };
    // Left behind by a coordinator that was killed.
    drop(std::os::unix::net::UnixListener::bind(home.join("squall.sock")).unwrap());
    let output = ask(&["lever", "engage"]);
    assert_eq!(output.status.code(), Some(6), "{}", stderr(&output));
    assert!(stderr(&output).contains("none answers on a socket"), "{}", stderr(&output));

    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let engage = async |headers: HeaderMap| {
            let tokens = headers.contains_key("authorization");
            axum::Json(serde_json::json!({"engaged": !tokens, "by": "ada at this host", "wallMs": 1}))
        };
        let app = Router::new().route("/v1/lever/engage", post(engage));
        std::fs::remove_file(home.join("squall.sock")).unwrap();
        let listener = tokio::net::UnixListener::bind(home.join("squall.sock")).unwrap();
        tokio::spawn(async move { axum::serve(listener, app).await });
    });
    let named = home.join("squall.sock");
    for arguments in [vec!["lever", "engage"], vec!["lever", "engage", "--access", named.to_str().unwrap()]] {
        let output = ask(&arguments);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        assert_eq!(stdout(&output), "the safety lever is engaged: no run is admitted (by ada at this host)\n");
    }
}
