//! Random requests over the real kernel, checked against the model.

mod common;

use common::model::Model;
use common::work::{Mix, Worker, check_all, shared};
use common::*;

fn many_requests(name: &'static str, block_bytes: u32, seed: u64) {
    let file = TempPool::new(name);
    let path = file.0.clone();
    on_reactor(move || async move {
        create(&path, Some(64 << 20)).await;
        let (engine, _) = open(&path).await;
        let size = 8 << 20;
        engine
            .create_volume(spec("demo", size, block_bytes))
            .await
            .expect("create");
        let model = shared(Model::new(size / u64::from(block_bytes)));
        let mut engine = engine;
        for round in 0..3 {
            let volume = engine.volume("demo").expect("there");
            Worker::run_many(&volume, &model, seed + round, Mix::ALL, 8, 120).await;
            check_all(&volume, &model).await;
            engine.shutdown().await.expect("shutdown");
            drop((volume, engine));
            engine = open(&path).await.0;
            check_all(&engine.volume("demo").expect("there"), &model).await;
        }
        engine.shutdown().await.expect("shutdown");
    });
}

#[test]
fn blocks_of_4096_bytes() {
    many_requests("model-4096", 4096, 1);
}

#[test]
fn blocks_of_512_bytes() {
    many_requests("model-512", 512, 2);
}
