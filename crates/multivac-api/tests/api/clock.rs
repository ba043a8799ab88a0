//! The system's clock is set forward and back while the program runs.

use multivac_core::datum::{DatumId, Timestamp};
use multivac_testkit::clock::Clock;
use reqwest::Client;
use serde_json::Value;

use crate::program::{Program, program};

#[tokio::test]
async fn after_a_clock_that_was_ahead_ids_and_times_are_right_again() {
    const HOUR: i64 = 3_600;
    let (clock, directory) = (Clock::new(), tempfile::tempdir().unwrap());
    let data = directory.path().to_str().unwrap();
    let mut command =
        program(&["--listen", "127.0.0.1:0", "--log-format", "text", "--lease", "2s", "--data-dir", data]);
    let program = Program::spawn(command.envs(clock.environment()));
    let client = Client::new();
    program.until(&client, "/readyz", |ready| ready["ready"] == true).await;
    for (number, ahead) in [0, HOUR, 0, -HOUR, 48 * HOUR, 0].into_iter().enumerate() {
        clock.set_ahead(ahead);
        let before = Timestamp::now().as_millis();
        let feed = client.post(format!("{}/multivac/data", program.base)).form(&[("data", format!("number {number}"))]);
        let reply: Value = feed.send().await.unwrap().json().await.unwrap();
        let path = format!("/multivac/data/{}", reply["id"].as_str().unwrap());
        // Leases, retries and the index go on whatever the clock shows.
        let datum = program.until(&client, &path, |datum| datum["status"] == "processed").await;
        let id: DatumId = reply["id"].as_str().unwrap().parse().unwrap();
        let off = id.created_at().unwrap().as_millis() - before - 1_000 * ahead;
        assert!((-1_000..60_000).contains(&off), "{ahead} s ahead: its id is {off} ms off");
        assert_eq!(datum["received_at"], id.created_at().unwrap().to_string());
    }
    program.process.signal("TERM");
    assert_eq!(program.ended().await.code, Some(0));
}
