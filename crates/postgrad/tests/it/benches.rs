//! `bench`, at its smallest.

use crate::Place;

#[test]
fn a_training_step_is_measured_and_learns() {
    let place = Place::new();
    let row = place.call(&["bench", "train", "--shape", "a", "--steps", "1", "--json"]).json();
    assert_eq!((row["shape"].as_str(), row["tokens_per_step"].as_u64()), (Some("A"), Some(4096)));
    assert!(row["tokens_per_s"].as_f64().unwrap() > 0.0 && row["peak_mb"].as_f64().unwrap() > 10.0);
    let losses: Vec<f64> = row["losses"].as_array().unwrap().iter().map(|l| l.as_f64().unwrap()).collect();
    // Random tokens of 512: ln 512 = 6.24.
    assert!(losses.len() == 3 && losses.iter().all(|l| (l - 6.24).abs() < 0.3), "{losses:?}");
    let again = place.call(&["bench", "train", "--shape", "A", "--steps", "1", "--json", "--threads", "1"]).json();
    assert_eq!(again["losses"], row["losses"], "the number of threads changes no bit");
    place.call(&["bench", "train", "--shape", "Z"]).fails(2, &["Z", "all"]);
    place.call(&["bench", "train", "--steps", "0"]).fails(2, &["0"]);
    place.call(&["bench", "generate", "--case", "A-64"]).fails(2, &["A-64", "A-64x128"]);
}
