//! Cache hits, and actix-files serving the same file. Each result is asserted before it is measured.

#![allow(missing_docs, reason = "criterion's macros make public items")]
#![allow(clippy::unwrap_used, reason = "a bench that can't be set up must not run")]

use std::hint::black_box;
use std::time::Instant;

use actix_rt::System;
use actix_web::{App, test};
use criterion::{Criterion, criterion_group, criterion_main};
use pagecast::config::{CachesGroup, Config, DurationSetting, OnOff, ResolvedLimits, Symlinks};
use pagecast::files::policy::Rules;
use pagecast::files::{FileSettings, Files, Lookup, Root};
use pagecast::http::target::SitePath;

fn settings() -> FileSettings {
    let hour = DurationSetting::hours(1);
    let config = Config {
        caches: CachesGroup {
            revalidate_after: hour,
            revalidate_watched_after: hour,
            watch: OnOff::Off,
            ..CachesGroup::default()
        }
        .into(),
        ..Config::default()
    };
    let limits = ResolvedLimits {
        handles: 64,
        mappings: 1024,
        cache_bytes: 64 << 20,
        heap_bytes: 1 << 20,
        ..ResolvedLimits::default()
    };
    FileSettings::of(&config, &limits)
}

fn hit(criterion: &mut Criterion) {
    let site = tempfile::tempdir().unwrap();
    std::fs::write(site.path().join("app.css"), vec![b'a'; 1024]).unwrap();
    let system = System::new();
    let files = Files::new(
        Root::open(site.path(), Symlinks::Inside).unwrap(),
        &settings(),
        Rules::new(&Config::default()),
    )
    .unwrap();
    let path = SitePath::parse(b"/app.css").unwrap().path;
    let found = system.block_on(files.find(&path));
    assert!(matches!(&found.lookup, Lookup::File(asset) if asset.length == 1024));

    let mut group = criterion.benchmark_group("cache_hit");
    group.bench_function("shared_cache", |bencher| {
        bencher.iter(|| {
            system.block_on(async { matches!(files.find(black_box(&path)).await.lookup, Lookup::File(_)) })
        });
    });
    group.bench_function("known_name", |bencher| {
        bencher.iter(|| files.recall(black_box(&found.name), files.now_ms()).is_some());
    });
    group.finish();
}

/// Two workers that take the open handles of 64 files: every request for a body above 16 KiB does.
fn handles(criterion: &mut Criterion) {
    let site = tempfile::tempdir().unwrap();
    let root = Root::open(site.path(), Symlinks::Inside).unwrap();
    let files = Files::new(root, &settings(), Rules::new(&Config::default())).unwrap();
    let system = System::new();
    let assets: Vec<_> = (0..64)
        .map(|number| {
            let name = format!("{number}");
            std::fs::write(site.path().join(&name), vec![b'a'; 20_000]).unwrap();
            let path = SitePath::root().index(&name);
            match system.block_on(files.find(&path)).lookup {
                Lookup::File(asset) => asset,
                other => panic!("{other:?}"),
            }
        })
        .collect();
    let take_all = || assert!(assets.iter().all(|asset| files.has_open_handle(black_box(asset))));
    take_all();
    for workers in [1, 2] {
        criterion.bench_function(&format!("handles/{workers}_workers"), |bencher| {
            bencher.iter_custom(|rounds| {
                let begun = Instant::now();
                std::thread::scope(|scope| {
                    for _ in 0..workers {
                        scope.spawn(|| (0..rounds).for_each(|_| take_all()));
                    }
                });
                begun.elapsed()
            });
        });
    }
}

fn baseline(criterion: &mut Criterion) {
    let site = tempfile::tempdir().unwrap();
    std::fs::write(site.path().join("app.css"), vec![b'a'; 1024]).unwrap();
    let system = System::new();
    let app =
        system.block_on(test::init_service(App::new().service(actix_files::Files::new("/", site.path()))));
    let get = || async {
        let response = test::call_service(&app, test::TestRequest::get().uri("/app.css").to_request()).await;
        test::read_body(response).await.len()
    };
    assert_eq!(system.block_on(get()), 1024);
    criterion.bench_function("baseline/actix_files", |bencher| bencher.iter(|| system.block_on(get())));
}

criterion_group!(benches, hit, handles, baseline);
criterion_main!(benches);
