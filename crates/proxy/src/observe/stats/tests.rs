use super::*;

const A: Labels<'static> = &[("name", "a")];

#[test]
fn workers_and_other_threads_are_summed() {
    let registry = Registry::new(2);
    let counter = registry.counter("c", "help", A);
    registry.worker(0).inc(counter);
    registry.worker(1).add(counter, 2);
    registry.inc_shared(counter, 3);
    registry.worker(7).add(counter, 4);
    assert_eq!(registry.value("c", A), Some(10));
}

#[test]
fn the_same_names_give_the_same_series() {
    let registry = Registry::new(1);
    let b: Labels<'_> = &[("name", "b")];
    assert_eq!(registry.counter("c", "", A), registry.counter("c", "", A));
    assert_ne!(registry.counter("c", "", A), registry.counter("c", "", b));
    assert_ne!(registry.counter("c", "", A), registry.counter("d", "", A));
}

#[test]
fn a_worker_counts_series_that_were_made_after_it() {
    let registry = Registry::new(1);
    let worker = registry.worker(0);
    for index in 0..2000 {
        let counter = registry.counter("c", "", &[("i", &index.to_string())]);
        worker.add(counter, index);
    }
    for index in [1, 511, 512, 1999] {
        let value = registry.value("c", &[("i", &index.to_string())]);
        assert_eq!(value, Some(index));
    }
}

#[test]
fn an_unused_series_does_not_exist_but_a_gauge_at_zero_again_does() {
    let registry = Registry::new(1);
    let _unused = registry.counter("unused", "", &[]);
    let gauge = registry.gauge("used", "was used", &[]);
    let worker = registry.worker(0);
    worker.gauge_add(gauge, 1);
    worker.gauge_add(gauge, -1);
    assert_eq!(
        registry.render(),
        "# HELP used was used\n# TYPE used gauge\nused{} 0\n"
    );
    worker.gauge_add(gauge, -1);
    assert_eq!(registry.value("used", &[]), None, "below zero is no value");
}

#[test]
fn one_worker_may_open_what_another_closes() {
    let registry = Registry::new(2);
    let gauge = registry.gauge("g", "", &[]);
    registry.worker(0).gauge_add(gauge, 5);
    registry.worker(1).gauge_add(gauge, -3);
    assert_eq!(registry.value("g", &[]), Some(2));
}

const SET: &[Family] = &[
    Family {
        name: "rq",
        help: "Requests",
        kind: Kind::Counter,
        fixed: None,
    },
    Family {
        name: "time",
        help: "Time",
        kind: Kind::Histogram,
        fixed: None,
    },
    Family {
        name: "xx",
        help: "By class",
        kind: Kind::Counter,
        fixed: Some(("class", "2")),
    },
    Family {
        name: "xx",
        help: "By class",
        kind: Kind::Counter,
        fixed: Some(("class", "5")),
    },
];

#[test]
fn families_of_a_set_share_their_labels_and_are_shown_by_name() {
    let registry = Registry::new(1);
    let worker = registry.worker(0);
    for (name, n) in [("b", 1), ("a", 2)] {
        let mut handles = registry.set(SET, &[("name", name)]);
        worker.add(handles.counter(), n);
        let _time = handles.histogram();
        let _class_2 = handles.counter();
        worker.add(handles.counter(), 10 * n);
    }
    assert_eq!(
        registry.render(),
        "# HELP rq Requests\n# TYPE rq counter\n\
         rq{name=\"a\"} 2\nrq{name=\"b\"} 1\n\
         # HELP xx By class\n# TYPE xx counter\n\
         xx{class=\"5\",name=\"a\"} 20\nxx{class=\"5\",name=\"b\"} 10\n"
    );
    let class = |class| registry.value("xx", &[("class", class), ("name", "a")]);
    assert_eq!(
        (class("5"), class("2"), class("9")),
        (Some(20), Some(0), None)
    );
    assert_eq!(registry.value("time", A), Some(0));
}

#[test]
fn histograms_are_cumulative_and_label_values_escaped() {
    let registry = Registry::new(1);
    let histogram = registry.histogram("h", "", &[("a", "x\"y\\z\n")]);
    let worker = registry.worker(0);
    for ms in [0, 3, 5, 7, 3_600_000, 4_000_000] {
        worker.record(histogram, ms);
    }
    let text = registry.render();
    let label = r#"a="x\"y\\z\n""#;
    for line in [
        format!("h_bucket{{{label},le=\"0.5\"}} 1"),
        format!("h_bucket{{{label},le=\"1\"}} 1"),
        format!("h_bucket{{{label},le=\"5\"}} 3"),
        format!("h_bucket{{{label},le=\"10\"}} 4"),
        format!("h_bucket{{{label},le=\"3600000\"}} 5"),
        format!("h_bucket{{{label},le=\"+Inf\"}} 6"),
        format!("h_sum{{{label}}} 7600015"),
        format!("h_count{{{label}}} 6"),
    ] {
        assert!(text.lines().any(|l| l == line), "{line} in\n{text}");
    }
}

#[test]
fn bounds_are_shown_as_they_are_compared() {
    for (shown, ms) in BUCKETS.iter().zip(BUCKETS_MS) {
        let bound: f64 = shown.parse().unwrap();
        assert!(bound.floor() == ms as f64, "{shown} is compared as {ms}");
    }
    assert!(BUCKETS_MS.is_sorted());
}
