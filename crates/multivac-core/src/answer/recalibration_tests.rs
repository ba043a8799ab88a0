use proptest::prelude::*;

use super::*;

/// Questions whose confidence is spread evenly, and that are right as often as `share` says of it; chance by a seed.
fn questions(count: usize, seed: u64, share: impl Fn(f64) -> f64) -> Vec<Judged> {
    let mut random = fastrand::Rng::with_seed(seed);
    let one = |at: usize| {
        let confidence = round((at as f64 + 0.5) / count as f64);
        let right = random.f64() < share(confidence);
        Judged { confidence, found: true, answerable: right || at.is_multiple_of(3), right }
    };
    (0..count).map(one).collect()
}

/// By how much a curve misses the true shares, on average over confidences.
fn miss(calibration: &Calibration, share: impl Fn(f64) -> f64) -> f64 {
    let at = |n: usize| (n as f64 + 0.5) / 100.0;
    (0..100).map(|n| (calibration.confidence(at(n)) - share(at(n))).abs()).sum::<f64>() / 100.0
}

#[test]
fn a_confidence_that_is_right_stays_as_it_is() {
    for (count, allowed) in [(60, 0.15), (150, 0.1), (1_000, 0.05), (5_000, 0.03)] {
        for seed in 0..5 {
            let done = recalibrate(&questions(count, seed, |p| p)).expect("enough");
            assert!(miss(&done.calibration, |p| p) < allowed, "{count} {seed}: {:?}", done.calibration);
        }
    }
}

#[test]
fn too_much_confidence_becomes_as_much_as_is_right() {
    let truth = |p: f64| 0.5 * p * p;
    for (count, allowed) in [(100, 0.12), (1_000, 0.06), (5_000, 0.04)] {
        for seed in 0..5 {
            let done = recalibrate(&questions(count, seed, truth)).expect("enough");
            assert!(miss(&done.calibration, truth) < allowed, "{count} {seed}: {:?}", done.calibration);
            assert!(done.way != Way::AsStated, "{count} {seed}");
            assert!(done.after.brier < done.before.brier);
            assert!(done.before.calibration_error > 0.2 && done.after.calibration_error < 0.15, "{count} {seed}");
        }
    }
}

#[test]
fn steps_are_found_where_there_are_questions_enough_and_not_tried_before() {
    let truth = |p: f64| if p < 0.4 { 0.1 } else { 0.6 };
    for seed in 0..5 {
        let many = recalibrate(&questions(2_000, seed, truth)).expect("enough");
        assert_eq!(many.way, Way::Isotonic);
        assert!(miss(&many.calibration, truth) < 0.06);
        assert_ne!(recalibrate(&questions(199, seed, truth)).expect("enough").way, Way::Isotonic);
    }
}

#[test]
fn a_confidence_that_says_nothing_means_the_same_everywhere_and_one_that_says_the_contrary_too() {
    for (seed, truth) in [(1, (|_| 0.3) as fn(f64) -> f64), (2, |p| 0.6 - 0.5 * p)] {
        for count in [150, 1_000] {
            let done = recalibrate(&questions(count, seed, truth)).expect("enough");
            let (low, high) = (done.calibration.confidence(0.1), done.calibration.confidence(0.9));
            assert!(low <= high && high - low < 0.3 && (low - 0.3).abs() < 0.2, "{count}: {low} {high}");
        }
    }
}

#[test]
fn too_few_questions_or_all_alike_are_refused_with_what_is_needed() {
    let all = questions(60, 1, |p| p);
    let said = recalibrate(&all[..29]).expect_err("too few").to_string();
    assert!(said.contains("expected 30 questions or more") && said.contains("there are 29"), "{said}");
    for right in [true, false] {
        let alike: Vec<Judged> = all.iter().map(|one| Judged { right, ..*one }).collect();
        let wrong = if right { "60 right and 0 wrong" } else { "0 right and 60 wrong" };
        assert!(recalibrate(&alike).expect_err("alike").to_string().contains(wrong));
    }
    let lost: Vec<Judged> =
        all.iter().map(|one| Judged { found: false, right: false, confidence: 0.0, ..*one }).collect();
    assert_eq!(recalibrate(&lost), Err(TooFew { found: 0, right: 0 }));
    assert_eq!(recalibrate(&[]), Err(TooFew { found: 0, right: 0 }));
}

#[test]
fn what_was_not_found_is_no_answer_and_does_not_bend_the_curve() {
    let found = questions(100, 3, |p| p);
    let lost = Judged { confidence: 0.0, found: false, answerable: true, right: false };
    let with: Vec<Judged> = found.iter().copied().chain(std::iter::repeat_n(lost, 50)).collect();
    let (alone, with) = (recalibrate(&found).expect("enough"), recalibrate(&with).expect("enough"));
    assert_eq!((with.questions, with.answerable), (150, alone.answerable + 50));
    for p in [0.0, 0.2, 0.5, 0.9] {
        assert!((alone.calibration.confidence(p) - with.calibration.confidence(p)).abs() < 1e-9);
    }
    assert!(with.at_best.answered <= 100.0 / 150.0 && with.at_best.recall < alone.at_best.recall);
}

#[test]
fn the_measures_are_those_of_the_field() {
    let one = |confidence, right| Judged { confidence, found: true, answerable: true, right };
    let judged = [one(0.1, false), one(0.15, true), one(0.15, false), one(0.95, true), one(1.0, true)];
    let stated: Vec<f64> = judged.iter().map(|one| one.confidence).collect();
    let measured = reliability(&stated, &judged);
    assert_eq!(measured.tenths[1].questions, 3);
    assert!(
        (measured.tenths[1].stated - 0.4 / 3.0).abs() < 1e-9 && (measured.tenths[1].right - 1.0 / 3.0).abs() < 1e-9
    );
    assert_eq!((measured.tenths[0].questions, measured.tenths[9].questions), (0, 2));
    assert!((measured.calibration_error - (0.6 + 0.05) / 5.0).abs() < 1e-9);
    // Of six pairs of a right and a wrong one, five are in order and one is equal.
    assert!((measured.auroc - 5.5 / 6.0).abs() < 1e-9);
    let at = triggering(0.15, &stated, &judged);
    assert_eq!((at.answered, at.precision, at.recall), (0.8, 0.75, 0.6));
    assert!((at.f1 - 6.0 / 9.0).abs() < 1e-9);
    assert!(best_f1(&stated, &judged).f1 >= at.f1);
    assert_eq!(lowest_with(1.0, &stated, &judged).map(|at| (at.from, at.answered)), Some((0.55, 0.4)));
    assert_eq!(lowest_with(1.1, &stated, &judged), None);
}

proptest! {
    #[test]
    fn every_curve_rises_from_0_to_1_and_every_number_is_a_share(
        all in proptest::collection::vec((0..=10_000_u32, any::<bool>(), any::<bool>(), 0..10_u8), 0..400),
    ) {
        let judged: Vec<Judged> = all.into_iter().map(|(p, right, answerable, found)| {
            let found = found > 0;
            let right = right && found;
            let confidence = if found { f64::from(p) / 10_000.0 } else { 0.0 };
            Judged { confidence, found, answerable: answerable || right, right }
        }).collect();
        if judged.is_empty() {
            return Ok(());
        }
        for way in [Way::AsStated, Way::Logistic, Way::Isotonic] {
            prop_assert!(Calibration::new(0.5, fit(way, &judged)).is_some(), "{:?}", way);
        }
        let Ok(done) = recalibrate(&judged) else { return Ok(()) };
        let of = |at: &Triggering| [at.from, at.answered, at.precision, at.recall, at.f1];
        let mut shares: Vec<f64> = [&done.at_fitted, &done.at_best].into_iter().chain(&done.at_precisions).flat_map(of).collect();
        for measured in [&done.before, &done.after] {
            shares.extend([measured.auroc, measured.calibration_error, measured.brier]);
            shares.extend(measured.tenths.iter().flat_map(|tenth| [tenth.stated, tenth.right]));
            prop_assert_eq!(measured.tenths.iter().map(|tenth| tenth.questions).sum::<usize>(), judged.len());
        }
        prop_assert!(shares.iter().all(|share| (0.0..=1.0).contains(share)), "{:?}", done);
    }
}
