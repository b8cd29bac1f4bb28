//! A workload that may be cut off anywhere, and what must hold afterwards.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use reactor::sim::{Crash, DiskOptions, World, WorldOptions};
use store::fsck::{FsckOptions, fsck};
use store::{Cluster, CreateOptions, OpenOptions, Pool, StoreError, VolumeId, VolumeState};

use super::{LIMIT, NewVolume, Writer, device, life, page_bytes, write_page};

/// Small, so that the allocator comes round to freed clusters soon.
const SMALL_POOL_BYTES: u64 = 20 << 20;

/// Stands for what a volume keeps of its reservations, among its clusters.
const RESERVATIONS: u64 = u64::MAX;

/// A volume as published: cluster index to (valid pages, version). None: being deleted.
type Content = Option<BTreeMap<u64, (u64, u64)>>;
type State = BTreeMap<String, Content>;

/// What is on the pool for certain, and what a change in progress may have made of it.
#[derive(Default)]
pub struct Oracle {
    confirmed: Option<State>,
    attempt: Option<State>,
    thorough: bool,
}

pub type Shared = Rc<RefCell<Oracle>>;

impl Oracle {
    fn confirmed(&self) -> State {
        self.confirmed.clone().expect("there is a pool")
    }

    fn begin(&mut self, change: impl FnOnce(&mut State)) {
        let mut state = self.confirmed.clone().unwrap_or_default();
        change(&mut state);
        self.attempt = Some(state);
    }

    fn commit(&mut self) {
        self.confirmed = Some(self.attempt.take().expect("something was begun"));
    }
}

pub fn crash_world(seed: u64, volatile_cache: bool) -> World {
    let mut options = WorldOptions::default();
    options.core.engine_pool_bytes = 16 << 20;
    options.core.io_pool_bytes = 4 << 20;
    let mut world = World::new(seed, options);
    let disk = DiskOptions {
        len_bytes: SMALL_POOL_BYTES,
        logical_block: if seed.is_multiple_of(2) { 512 } else { 4096 },
        volatile_cache,
        ..DiskOptions::default()
    };
    world.add_disk("pool", disk);
    world
}

fn spec(name: &str) -> NewVolume {
    let small = 4 << 20;
    NewVolume {
        name: name.into(),
        size_bytes: 4 << 30,
        block_bytes: 512,
        journal_bytes: small,
    }
}

async fn publish(shared: &Shared, writer: &mut Writer, name: &str, puts: &[(u64, u64, u64)]) {
    for &(index, pages, version) in puts {
        writer.put(index, pages, version).await.expect("put");
    }
    shared.borrow_mut().begin(|state| {
        let content = state
            .get_mut(name)
            .and_then(Option::as_mut)
            .expect("a live volume");
        for &(index, pages, version) in puts {
            match pages {
                0 => drop(content.remove(&index)),
                _ => drop(content.insert(index, (pages, version))),
            }
        }
    });
    writer.publish().await.expect("publish");
    shared.borrow_mut().commit();
}

/// What a test keeps as reservations: of another length for each version, some of several blocks.
fn reservation_bytes(version: u64) -> Vec<u8> {
    page_bytes(RESERVATIONS, 0, version)
        .repeat(1 + version as usize % 3)
        .split_off(version as usize)
}

/// Keeps reservations of this version; of version 0 none.
async fn reserve(shared: &Shared, pool: &Pool, name: &str, version: u64) {
    shared.borrow_mut().begin(|state| {
        let content = state.get_mut(name).and_then(Option::as_mut);
        let content = content.expect("a live volume");
        match version {
            0 => drop(content.remove(&RESERVATIONS)),
            _ => drop(content.insert(RESERVATIONS, (0, version))),
        }
    });
    let records = pool.records();
    let record = records.iter().find(|record| *record.name == *name);
    let bytes = match version {
        0 => Vec::new(),
        version => reservation_bytes(version),
    };
    let id = record.expect("it is there").id;
    pool.store_reservations(id, bytes).await.expect("stored");
    shared.borrow_mut().commit();
}

async fn create_volume(shared: &Shared, pool: &Pool, name: &str) -> Writer {
    shared
        .borrow_mut()
        .begin(|state| drop(state.insert(name.into(), Some(BTreeMap::new()))));
    let record = pool
        .create_volume(spec(name))
        .await
        .expect("create a volume");
    shared.borrow_mut().commit();
    Writer::new(pool, &record).await
}

async fn delete_volume(shared: &Shared, pool: &Pool, name: &str, writer: Writer) {
    shared
        .borrow_mut()
        .begin(|state| drop(state.insert(name.into(), None)));
    pool.begin_delete(writer.volume)
        .await
        .expect("begin to delete");
    shared.borrow_mut().commit();
    shared.borrow_mut().begin(|state| drop(state.remove(name)));
    pool.finish_delete(writer.volume)
        .await
        .expect("finish deleting");
    shared.borrow_mut().commit();
}

/// Writes junk to free clusters all the time: what is free too early does not stay intact.
/// `thorough` comes round to every free cluster several times in a publish.
async fn scribble(pool: Pool, stop: Rc<Cell<bool>>, thorough: bool) {
    while !stop.get() {
        let batch = free_clusters(&pool, if thorough { 16 } else { 1 });
        let junk = |&cluster: &Cluster| {
            let pool = pool.clone();
            reactor::spawn(async move {
                write_page(&pool, cluster, 0, &page_bytes(u64::MAX, 63, u64::MAX)).await
            })
        };
        let writes: Vec<_> = batch.iter().map(junk).collect();
        for write in writes {
            write.await;
        }
        reactor::time::sleep(Duration::from_micros(if thorough { 20 } else { 100 })).await;
        for cluster in batch {
            pool.discard_unpublished(cluster);
        }
    }
}

/// Some free clusters, but never the last ones that the workload itself may want.
fn free_clusters(pool: &Pool, count: u32) -> Vec<Cluster> {
    let Ok(_held_back) = pool.reserve(20) else {
        return Vec::new();
    };
    let free = (0..count).map_while(|_| pool.allocate(None).ok());
    free.collect()
}

/// The first life: a pool with something in it.
pub async fn prepare(shared: Shared) {
    shared.borrow_mut().begin(State::clear);
    let options = CreateOptions {
        name: "main".into(),
        overwrite: false,
    };
    let pool = Pool::create(device().unwrap(), options, OpenOptions::default()).await;
    let pool = pool.expect("create a pool");
    shared.borrow_mut().commit();
    let mut writer = create_volume(&shared, &pool, "a").await;
    publish(
        &shared,
        &mut writer,
        "a",
        &[(0, 0b11, 1), (1, 1, 1), (3000, 1, 1)],
    )
    .await;
    reserve(&shared, &pool, "a", 1).await;
    publish(&shared, &mut writer, "a", &[(1, 1, 2), (16000, 1, 2)]).await;
}

/// The life that is cut off: every kind of change.
pub async fn workload(shared: Shared) {
    let pool = super::open().await.expect("open");
    let stop = Rc::new(Cell::new(false));
    let thorough = shared.borrow().thorough;
    let scribbler = reactor::spawn(scribble(pool.clone(), stop.clone(), thorough));
    let record = pool.records()[0].clone();
    let mut a = Writer::new(&pool, &record).await;
    publish(
        &shared,
        &mut a,
        "a",
        &[(0, 0b101, 3), (2, 1, 3), (16000, 0, 0)],
    )
    .await;
    let mut b = create_volume(&shared, &pool, "b").await;
    publish(
        &shared,
        &mut a,
        "a",
        &[(0, 0b1, 4), (1, 0, 0), (3000, 0b11, 4)],
    )
    .await;
    publish(
        &shared,
        &mut b,
        "b",
        &[(0, 1, 5), (100, 1, 5), (9000, 1, 5)],
    )
    .await;
    reserve(&shared, &pool, "b", 2).await;
    reserve(&shared, &pool, "a", 3).await;
    publish(&shared, &mut b, "b", &[(0, 1, 6), (101, 1, 6)]).await;
    reserve(&shared, &pool, "a", 0).await;
    reserve(&shared, &pool, "a", 5).await;
    delete_volume(&shared, &pool, "b", b).await;
    publish(&shared, &mut a, "a", &[(0, 0b1, 7), (7, 1, 7)]).await;
    stop.set(true);
    scribbler.await;
    pool.close(true).await.expect("close");
}

/// The life after: the pool is one of the states it may be, nothing is damaged, nothing is lost,
/// and it can be used.
pub async fn verify(shared: Shared) -> Result<(), String> {
    let oracle = (
        shared.borrow().confirmed.clone(),
        shared.borrow().attempt.clone(),
    );
    let pool = match super::open().await {
        Ok(pool) => pool,
        Err(StoreError::NotAPool { .. } | StoreError::SuperblocksDamaged { .. })
            if oracle.0.is_none() =>
        {
            return Ok(());
        }
        Err(error) => return Err(format!("open: {error}")),
    };
    let found = read_state(&pool).await?;
    if Some(&found) != oracle.0.as_ref() && Some(&found) != oracle.1.as_ref() {
        return Err(format!(
            "found {found:?}\nconfirmed {:?}\nor {:?}",
            oracle.0, oracle.1
        ));
    }
    let notes = check(&pool).await?;
    if notes > 1 {
        return Err(format!("{notes} notes after one crash"));
    }
    for record in pool
        .records()
        .iter()
        .filter(|record| record.state == VolumeState::Deleting)
    {
        pool.finish_delete(record.id)
            .await
            .map_err(|error| format!("delete: {error}"))?;
    }
    let oracle = Rc::new(RefCell::new(Oracle::default()));
    oracle.borrow_mut().begin(|state| *state = found);
    oracle.borrow_mut().commit();
    let mut writer = match pool.records().first() {
        Some(record) => Writer::new(&pool, record).await,
        None => create_volume(&oracle, &pool, "a").await,
    };
    let puts = [(0, 1, 20), (8000, 1, 20)];
    publish(&oracle, &mut writer, "a", &puts).await;
    let mut expected = oracle.borrow().confirmed();
    expected.retain(|_, content| content.is_some());
    if read_state(&pool).await? != expected {
        return Err("a change after the crash did not come out right".into());
    }
    match check(&pool).await? {
        0 => Ok(()),
        _ => Err("the superblocks were not repaired by a publish".into()),
    }
}

async fn read_state(pool: &Pool) -> Result<State, String> {
    let mut state = State::new();
    for record in pool.records() {
        let mut content = BTreeMap::new();
        let map = pool
            .open_map(&record)
            .await
            .map_err(|error| error.to_string())?;
        for index in (0..16).chain([100, 101, 3000, 8000, 9000, 16000]) {
            let entry = map.lookup(index).await.map_err(|error| error.to_string())?;
            if entry.is_empty() {
                continue;
            }
            let version = (0..50).find(|&version| {
                (0..store::CLUSTER_BLOCKS)
                    .filter(|page| entry.valid & (1 << page) != 0)
                    .all(|page| entry.crc[page] == store::crc32c(&page_bytes(index, page, version)))
            });
            content.insert(
                index,
                (entry.valid, version.ok_or("checksums of no version")?),
            );
        }
        let live = record.state == VolumeState::Live;
        let mapped = content.len();
        if live && record.mapped_clusters != mapped as u64 {
            return Err(format!("{} maps something it was not told to", record.name));
        }
        if let Some(version) = read_reservations(pool, record.id).await? {
            content.insert(RESERVATIONS, (0, version));
        }
        state.insert(record.name.to_string(), live.then_some(content));
    }
    Ok(state)
}

/// The version of the reservations that a volume keeps.
async fn read_reservations(pool: &Pool, id: VolumeId) -> Result<Option<u64>, String> {
    let kept = pool.load_reservations(id).await;
    let kept = kept.map_err(|error| format!("reservations: {error}"))?;
    if kept.is_empty() {
        return Ok(None);
    }
    let version = (1..10).find(|&version| kept == reservation_bytes(version));
    version.map(Some).ok_or("reservations of no version".into())
}

/// No damage, every checksum right, and the allocator is the walk of the maps. Gives the notes.
async fn check(pool: &Pool) -> Result<usize, String> {
    let report = fsck(pool.device(), FsckOptions::default(), &mut |_| ()).await;
    let report = report.map_err(|error| format!("fsck: {error}"))?;
    if report.is_damaged {
        let lines: Vec<String> = report.findings.iter().map(ToString::to_string).collect();
        return Err(lines.join("\n"));
    }
    Ok(report.findings.len())
}

/// Runs lives until `crash` says so, crashes, and verifies. False when it was never cut off.
pub fn run(
    seed: u64,
    volatile_cache: bool,
    from_creation: bool,
    crash: impl FnOnce(&mut World) -> bool,
) -> bool {
    match try_run(seed, volatile_cache, from_creation, false, crash) {
        Ok(was_cut_off) => was_cut_off,
        Err(what) => panic!("{what}"),
    }
}

/// As `run`; an error says what is wrong with the pool after the crash.
pub fn try_run(
    seed: u64,
    volatile_cache: bool,
    from_creation: bool,
    thorough: bool,
    crash: impl FnOnce(&mut World) -> bool,
) -> Result<bool, String> {
    let mut world = crash_world(seed, volatile_cache);
    let shared = Shared::default();
    shared.borrow_mut().thorough = thorough;
    let first = shared.clone();
    if !from_creation {
        life(&mut world, move || prepare(first.clone())).expect("the first life is not cut off");
        let second = shared.clone();
        world.start("target", 1, move |_| workload(second.clone()));
    } else {
        world.start("target", 1, move |_| prepare(first.clone()));
    }
    if !crash(&mut world) {
        return Ok(false);
    }
    let last = shared.clone();
    let result = life(&mut world, move || verify(last.clone())).expect("no crash in the last life");
    match result {
        Ok(()) => Ok(true),
        Err(what) => Err(format!("seed {seed}: {what}\n{}", world.report())),
    }
}

/// Runs until the disk has done `count` operations, then crashes.
pub fn after_operations(world: &mut World, count: u64, crash: Crash) -> bool {
    let (reads, writes, syncs) = world.disk("pool").operations();
    let target = reads + writes + syncs + count;
    world.run_until(LIMIT, |world| {
        let (reads, writes, syncs) = world.disk("pool").operations();
        reads + writes + syncs >= target || !world.is_up("target")
    });
    let running = world.is_up("target");
    if running {
        world.crash("target", crash);
    }
    running
}
