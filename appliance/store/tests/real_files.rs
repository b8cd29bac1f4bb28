//! The same pool on the real reactor, in a file.

use std::path::{Path, PathBuf};

use block::{BlockError, Device};
use reactor::buf::{BufList, engine_alloc};
use reactor::cores::{CoreConfig, run};
use store::fsck::{FsckOptions, fsck};
use store::{BLOCK_BYTES, Changes, CreateOptions, Entry, NewVolume, OpenOptions, Pool, StoreError};

/// A file that goes away with the test.
struct TempFile(PathBuf);

impl TempFile {
    fn new(name: &str) -> TempFile {
        let name = format!("bedplate-store-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = std::fs::remove_file(&path);
        TempFile(path)
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn on_core<F, T>(main: impl FnOnce() -> F) -> T
where
    F: Future<Output = T> + 'static,
    T: 'static,
{
    run(CoreConfig::default(), main).expect("a core")
}

async fn create(path: &Path) -> Pool {
    let device = Device::create(path, 64 << 20).expect("create a file");
    let options = CreateOptions {
        name: "main".into(),
        overwrite: false,
    };
    Pool::create(device, options, OpenOptions::default())
        .await
        .expect("create a pool")
}

async fn open(path: &Path) -> Result<Pool, StoreError> {
    let device = Device::open(path, block::OpenOptions::default())?;
    Pool::open(device, OpenOptions::default()).await
}

async fn write_one(pool: &Pool) {
    let spec = NewVolume {
        name: "demo".into(),
        size_bytes: 1 << 30,
        block_bytes: 4096,
        journal_bytes: 16 << 20,
    };
    let record = pool.create_volume(spec).await.expect("create a volume");
    let map = pool.open_map(&record).await.expect("open the map");
    let mut reservation = pool.reserve(1).expect("space");
    let cluster = pool.allocate(Some(&mut reservation)).expect("promised");
    let mut buf = engine_alloc(BLOCK_BYTES).await;
    buf.as_mut().fill(7);
    let mut entry = Entry {
        location: Some(cluster),
        valid: 1,
        ..Entry::EMPTY
    };
    entry.crc[0] = store::crc32c(&buf);
    let written = pool
        .device()
        .write(cluster.byte_offset(), BufList::from(buf))
        .await
        .0;
    written.expect("write data");
    map.update(4000, entry).await.expect("update");
    let changes = Changes {
        volume: record.id,
        map: &map,
        journal: record.mark,
        allocated: vec![cluster],
        freed: Vec::new(),
        keep_freed: false,
        clean: false,
    };
    pool.publish(changes).await.expect("publish");
}

#[test]
fn a_pool_in_a_file_lives_over_a_restart() {
    let file = TempFile::new("restart");
    let path = file.0.clone();
    on_core(|| async move {
        let pool = create(&path).await;
        write_one(&pool).await;
        pool.close(true).await.expect("close");
    });
    let path = file.0.clone();
    on_core(|| async move {
        let pool = open(&path).await.expect("open");
        assert!(pool.opened_clean());
        let record = pool.records()[0].clone();
        let map = pool.open_map(&record).await.expect("open the map");
        assert_eq!(map.lookup(4000).await.expect("lookup").valid, 1);
        let counters = pool.device().counters().snapshot();
        assert!(
            counters.reads > 4 && counters.writes == 0 && counters.flushes == 1,
            "{counters:?}"
        );
        let report = fsck(pool.device(), FsckOptions::default(), &mut |_| ())
            .await
            .expect("fsck");
        assert_eq!(report.findings, []);
        assert_eq!(report.progress.pages, 1);
    });
}

#[test]
fn what_cannot_be_opened_says_why() {
    let file = TempFile::new("errors");
    let path = file.0.clone();
    on_core(|| async move {
        let missing = open(&path).await.map(|_| ()).unwrap_err();
        assert_eq!(
            missing,
            StoreError::Device(BlockError::NotFound { path: path.clone() })
        );
        std::fs::write(&path, vec![0x11; 70_000]).expect("write a file");
        let foreign = open(&path).await.map(|_| ()).unwrap_err();
        assert!(matches!(foreign, StoreError::NotAPool { .. }), "{foreign}");
        let exists = Device::create(&path, 64 << 20).map(|_| ()).unwrap_err();
        assert_eq!(exists, BlockError::Exists { path: path.clone() });
        std::fs::remove_file(&path).expect("remove it");
        let pool = create(&path).await;
        let locked = open(&path).await.map(|_| ()).unwrap_err();
        assert_eq!(locked, StoreError::Locked { path: path.clone() });
        drop(pool);
        open(&path).await.expect("free again");
    });
}
