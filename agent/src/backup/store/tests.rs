use std::sync::Mutex;

use containarium_proto::{backup::MANIFEST_FORMAT, ids::ContainerId, keys::KeySet};
use object_store::memory::InMemory;

use super::*;

const SIZE: usize = 20 << 20;

fn facts(id: &str) -> BackupFacts {
    BackupFacts {
        format: MANIFEST_FORMAT,
        id: id.parse().unwrap(),
        owner: "alice".parse().unwrap(),
        container: ContainerId::generate(),
        fleet: containarium_proto::ids::FleetId::generate(),
        spec: containarium_proto::spec::Spec {
            cpu: "2".parse().unwrap(),
            memory: Bytes(2 << 30),
            disk: Bytes(20_000_000_000),
            image: "5".repeat(64).parse().unwrap(),
            autostart: true,
            restarts: 0,
            fenced: false,
        },
        image_alias: "containarium".into(),
        labels: Default::default(),
        keys: KeySet::from_recorded([]).unwrap(),
        created_at: 5,
    }
}

fn payload() -> Vec<u8> {
    (0..SIZE).map(|at| (at % 251) as u8).collect()
}

fn stream(bytes: &[u8]) -> BoxStream<'static, Result<Chunk, HostError>> {
    let chunks: Vec<_> = bytes.chunks(100_000).map(|chunk| Ok(Chunk::copy_from_slice(chunk))).collect();
    futures::stream::iter(chunks).boxed()
}

/// Both kinds, each with a way to spoil what lies in it.
fn stores() -> (tempfile::TempDir, Vec<Store>) {
    let dir = tempfile::tempdir().unwrap();
    let folder = Store::open(&format!("file://{}/deep/er", dir.path().display())).unwrap();
    (dir, vec![folder, Store::of(Arc::new(InMemory::new()))])
}

async fn written(store: &Store, id: &str) -> Manifest {
    store.write(&facts(id), stream(&payload()), SIZE as u64, |_| ()).await.unwrap()
}

async fn spoil(store: &Store, key: &BackupKey, change: impl FnOnce(&mut Vec<u8>)) {
    let path = Store::path(key, DATA);
    let mut bytes = store.objects.get(&path).await.unwrap().bytes().await.unwrap().to_vec();
    change(&mut bytes);
    store.objects.put(&path, PutPayload::from(bytes)).await.unwrap();
}

type Spoiling = fn(&mut Vec<u8>);

/// What came before the stream's end or error.
async fn drained(store: &Store, key: &BackupKey, data: &BackupData) -> (usize, Option<HostError>) {
    let mut got = 0;
    let mut chunks = match store.read(key, data).await {
        Ok(chunks) => chunks.boxed(),
        Err(error) => return (0, Some(error)),
    };
    while let Some(chunk) = chunks.next().await {
        match chunk {
            Ok(chunk) => got += chunk.len(),
            Err(error) => return (got, Some(error)),
        }
    }
    (got, None)
}

#[tokio::test]
async fn what_is_written_is_listed_checked_read_and_removed() {
    let (_dir, stores) = stores();
    for store in stores {
        let progress = Mutex::new(0);
        let fact = facts("20261124-145205");
        let manifest =
            store.write(&fact, stream(&payload()), SIZE as u64, |done| *progress.lock().unwrap() = done).await.unwrap();
        assert_eq!((manifest.data.size, *progress.lock().unwrap()), (Bytes(SIZE as u64), SIZE as u64));
        let key = fact.key();
        assert_eq!(store.list().await.unwrap(), std::slice::from_ref(&key));
        assert_eq!(store.manifest(&key).await.unwrap(), Some(manifest.clone()));
        store.check(&key, &manifest.data, |_| ()).await.unwrap();
        assert_eq!(drained(&store, &key, &manifest.data).await.0, SIZE);
        for _ in 0..2 {
            store.remove(&key).await.unwrap();
            assert_eq!((store.list().await.unwrap(), store.manifest(&key).await.unwrap()), (vec![], None));
        }
        assert!(store.check(&key, &manifest.data, |_| ()).await.unwrap_err().permanent);
    }
}

#[tokio::test]
async fn what_broke_off_is_not_listed_and_leaves_nothing_behind_the_next_try() {
    let (dir, stores) = stores();
    for store in stores {
        let fact = facts("20261124-145205");
        let broken =
            stream(&payload()[..SIZE / 2]).chain(futures::stream::iter([Err(HostError::transient("cut off"))]));
        let error = store.write(&fact, broken.boxed(), SIZE as u64, |_| ()).await.unwrap_err();
        assert_eq!((error.message.as_str(), error.permanent), ("cut off", false));
        let short = store.write(&fact, stream(&payload()[..SIZE / 2]), SIZE as u64, |_| ()).await.unwrap_err();
        assert!(short.message.contains("ended after"), "{short}");
        assert_eq!((store.list().await.unwrap(), store.manifest(&fact.key()).await.unwrap()), (vec![], None));
        written(&store, "20261124-145205").await;
        assert_eq!(store.list().await.unwrap().len(), 1);
    }
    // A writer that was killed leaves its part files.
    let folder = dir.path().join("deep/er/alice/20261124-145205");
    std::fs::write(folder.join("export.tar.zst#7"), "half").unwrap();
    let store = Store::open(&format!("file://{}/deep/er", dir.path().display())).unwrap();
    written(&store, "20261124-145205").await;
    let mut names: Vec<_> =
        std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, [DATA, MANIFEST]);
    store.remove(&facts("20261124-145205").key()).await.unwrap();
    assert!(!folder.exists() && !folder.parent().unwrap().exists() && dir.path().join("deep/er").exists());
}

#[tokio::test]
async fn a_damaged_backup_is_found_out_and_its_end_never_comes() {
    let (_dir, stores) = stores();
    for store in stores {
        let spoils: [(&str, Spoiling); 4] = [
            ("another one", |bytes| bytes[SIZE / 3] ^= 1),
            ("another one", |bytes| *bytes.last_mut().unwrap() ^= 0x80),
            ("bytes", |bytes| bytes.truncate(SIZE - 1)),
            ("bytes", |bytes| bytes.push(0)),
        ];
        for (why, change) in spoils {
            let manifest = written(&store, "20261124-145205").await;
            let key = manifest.facts.key();
            spoil(&store, &key, change).await;
            let error = store.check(&key, &manifest.data, |_| ()).await.unwrap_err();
            assert!(error.permanent && error.message.contains("is damaged"), "{error}");
            assert!(error.message.contains(why), "{error}");
            let (got, error) = drained(&store, &key, &manifest.data).await;
            assert!(error.is_some_and(|e| e.permanent) && got < SIZE, "{got}");
        }
    }
}

#[tokio::test]
async fn a_manifest_that_is_none_or_of_another_backup_is_damage() {
    let (_dir, stores) = stores();
    for store in stores {
        let manifest = written(&store, "20261124-145205").await;
        let key = manifest.facts.key();
        let other = BackupKey { id: "20261124-145206".parse().unwrap(), ..key.clone() };
        for (at, text) in [
            (&key, "{}".to_owned()),
            (&key, "not json".to_owned()),
            (&key, serde_json::to_string(&manifest).unwrap().replace("\"format\":1", "\"format\":2")),
            (&other, serde_json::to_string(&manifest).unwrap()),
        ] {
            store.objects.put(&Store::path(at, MANIFEST), PutPayload::from(text)).await.unwrap();
            let error = store.manifest(at).await.unwrap_err();
            assert!(error.permanent && error.message.contains("is damaged"), "{error}");
        }
        // What is no backup at all is nobody's.
        store.objects.put(&Path::from("lost+found/note.txt"), PutPayload::from("x")).await.unwrap();
        store.objects.put(&Path::from("alice/later/manifest.json"), PutPayload::from("x")).await.unwrap();
        assert_eq!(store.list().await.unwrap(), [key, other]);
    }
}

#[test]
fn only_a_folder_or_a_bucket_without_secrets_is_a_store() {
    for bad in [
        "",
        "/srv/backups",
        "s3://bucket",
        "gs:///prefix",
        "file:relative",
        "gs://user:secret@bucket",
        "gs://b?token=secret",
    ] {
        let error = Store::open(bad).unwrap_err();
        assert!(error.message.contains("gs://BUCKET/PREFIX") && !error.message.contains("secret"), "{bad}: {error}");
    }
}
