//! What traces cost where nothing is sent or sampled, in ns:
//!
//! ```sh
//! cargo bench --package multivac-core --bench trace
//! ```

use std::hint::black_box;
use std::time::Instant;

use multivac_core::observe::{spans, trace};

const TIMES: u32 = 2_000_000;
const ROUNDS: usize = 5;

/// Prints the median of some rounds.
#[allow(clippy::print_stdout)]
fn measure(what: &str, mut work: impl FnMut()) {
    let mut rounds: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let began = Instant::now();
            for _ in 0..TIMES {
                work();
            }
            began.elapsed().as_nanos() as f64 / f64::from(TIMES)
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    println!("{what:<60} {:>8.1} ns   (of {rounds:.1?})", rounds[ROUNDS / 2]);
}

fn main() {
    let unsampled = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00".to_owned();
    let sampled = unsampled.replace("-00", "-01");
    measure("a datum that is not sampled, looked at", || {
        black_box(trace::sampled(black_box(Some(&unsampled))));
    });
    measure("a sampled datum where nothing is sent, looked at", || {
        black_box(trace::sampled(black_box(Some(&sampled))));
    });
    measure("a caller's traceparent, read", || {
        black_box(trace::remote(black_box(&sampled), ""));
    });
    measure("a request without a trace, where nothing is sent", || {
        black_box(spans::request(None, None, "GET", Vec::new));
    });
}
