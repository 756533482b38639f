//! What survives, and what a server that cannot start or cannot write says.

use std::sync::Arc;

use model::Resource;
use serde_json::json;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Connection};
use store::{OpenError, Refusal};

use super::support::{Home, config_map_like, node, open, pod, running, web};

async fn connect(home: &Home) -> SqliteConnection {
    SqliteConnectOptions::new().filename(&home.config.path).connect().await.unwrap()
}

async fn execute(connection: &mut SqliteConnection, sql: &'static str) {
    sqlx::query(sql).execute(connection).await.unwrap();
}

fn message(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

async fn fill(home: &Home) {
    home.create(Resource::Nodes, node("n1")).await.unwrap();
    for n in 0..10 {
        let app = format!("s{n}");
        home.create(Resource::Services, web(&app)).await.unwrap();
        home.create(Resource::Pods, pod(&format!("p{n}"), &app)).await.unwrap();
        home.status(Resource::Pods, "default", &format!("p{n}"), running(&format!("10.9.0.{n}"), true)).await.unwrap();
    }
    home.delete(Resource::Services, "default", "s3").await.unwrap();
}

#[tokio::test]
async fn a_restart_gives_the_same_state() {
    let mut home = Home::new().await;
    fill(&home).await;
    let (dump, revision) = (home.dump(), home.store.revision());
    home.reopen().await;
    assert_eq!(home.dump(), dump);
    assert_eq!(home.store.revision(), revision, "a clean restart writes nothing");
    // Addresses are still held: the next one is new.
    let taken = home.names(Resource::IpAddresses, "");
    let created = home.create(Resource::Services, web("new")).await.unwrap().object;
    assert!(!taken.contains(&created.service().unwrap().spec.cluster_ip));
}

#[tokio::test]
async fn what_was_answered_is_in_a_copy_of_the_files() {
    let home = Home::new().await;
    fill(&home).await;
    let copy = tempfile::tempdir().unwrap();
    for name in ["portolan.db", "portolan.db-wal"] {
        std::fs::copy(home.path(name), copy.path().join(name)).unwrap();
    }
    let mut config = home.config.clone();
    config.path = copy.path().join("portolan.db");
    let other = open(config, Arc::clone(&home.seconds)).await.unwrap();
    for resource in Resource::ALL {
        let texts =
            |store: &store::Store| -> Vec<_> { store.list(resource, None).1.iter().map(|o| o.bytes.clone()).collect() };
        assert_eq!(texts(&other), texts(&home.store), "{resource}");
    }
    other.close().await;
}

#[tokio::test]
async fn two_servers_do_not_share_a_file() {
    let home = Home::new().await;
    let error = open(home.config.clone(), Arc::clone(&home.seconds)).await.unwrap_err();
    assert!(matches!(error, OpenError::Locked { .. }));
    assert!(error.to_string().contains("is in use by another portolan server"), "{error}");
    home.store.close().await;
    let again = open(home.config.clone(), Arc::clone(&home.seconds)).await.unwrap();
    again.close().await;
    // After closing, writes are refused and reads go on.
    let refusal = home.create(Resource::Leases, config_map_like("a")).await.unwrap_err();
    assert!(matches!(refusal, Refusal::Closed), "{refusal}");
    assert_eq!(home.names(Resource::Namespaces, "").len(), 4);
}

#[tokio::test]
async fn files_that_cannot_be_opened() {
    let home = Home::new().await;
    home.store.close().await;
    let reopen = || open(home.config.clone(), Arc::clone(&home.seconds));
    let mut connection = connect(&home).await;
    execute(&mut connection, "PRAGMA user_version = 99").await;
    let error = reopen().await.unwrap_err();
    assert!(matches!(error, OpenError::Newer { found: 99, known: 1, .. }), "{error}");
    execute(&mut connection, "PRAGMA user_version = 1").await;
    execute(&mut connection, "UPDATE log SET value = X'7B' WHERE revision = 2").await;
    let error = message(&reopen().await.unwrap_err());
    assert!(error.contains("holds an object at revision 2 that cannot be read; restore"), "{error}");
    execute(&mut connection, "PRAGMA application_id = 7").await;
    assert!(matches!(reopen().await.unwrap_err(), OpenError::Foreign { .. }));
    connection.close().await.unwrap();
    std::fs::write(&home.config.path, "this is no database at all, whatever its name is").unwrap();
    for suffix in ["portolan.db-wal", "portolan.db-shm"] {
        // Gone already if the connection was the last.
        let _ = std::fs::remove_file(home.path(suffix));
    }
    let error = reopen().await.unwrap_err();
    assert!(matches!(error, OpenError::Corrupt { .. }), "{}", message(&error));
    let mut config = home.config.clone();
    config.path = home.path("no/such/directory/portolan.db");
    let error = open(config, Arc::clone(&home.seconds)).await.unwrap_err();
    assert!(error.to_string().contains("check that its directory exists"), "{error}");
}

#[tokio::test]
async fn settings_that_make_no_cluster() {
    let refused = |change: fn(&mut store::Config)| async move {
        let directory = tempfile::tempdir().unwrap();
        let mut config = store::Config::new(directory.path().join("portolan.db"));
        change(&mut config);
        message(&store::Store::open(config).await.unwrap_err())
    };
    let text = refused(|config| config.service_cidrs = vec![]).await;
    assert!(text.contains("at least one range"), "{text}");
    let text = refused(|config| config.service_cidrs = vec!["10.0.0.0/24".parse().unwrap(); 2]).await;
    assert!(text.contains("at most one per IP family"), "{text}");
    let text = refused(|config| config.service_cidrs = vec!["fd00::/48".parse().unwrap()]).await;
    assert!(text.contains("fd00::/48 cannot be used") && text.contains("/64"), "{text}");
    #[allow(clippy::reversed_empty_ranges, reason = "the point of the test")]
    let text = refused(|config| config.node_ports = 5..=4).await;
    assert!(text.contains("5-4 is empty"), "{text}");
}

#[tokio::test]
async fn a_commit_that_fails_is_taken_back_and_the_server_lives_on() {
    let mut home = Home::new().await;
    fill(&home).await;
    let (dump, revision) = (home.dump(), home.store.revision());
    let mut watch = home.store.watch(Resource::Services, None, revision).unwrap();
    let mut connection = connect(&home).await;
    execute(
        &mut connection,
        "CREATE TRIGGER full BEFORE INSERT ON log BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END",
    )
    .await;
    for n in 0..3 {
        let refusal = home.create(Resource::Services, web(&format!("lost{n}"))).await.unwrap_err();
        assert!(matches!(refusal, Refusal::Unavailable(_)), "{refusal}");
        assert!(refusal.to_string().starts_with("the write was not stored:"), "{refusal}");
    }
    assert_eq!((home.dump(), home.store.revision()), (dump.clone(), revision));
    assert!(watch.ready().unwrap().is_empty());
    // What writes nothing still has its answer.
    let same = home.merge(Resource::Services, "default", "s1", json!({})).await.unwrap();
    assert_eq!(same.outcome, store::Outcome::Unchanged);
    execute(&mut connection, "DROP TRIGGER full").await;
    let created = home.create(Resource::Services, web("kept")).await.unwrap();
    assert_eq!(created.object.revision, revision + 1);
    assert_eq!(home.store.metrics().failed_commits, 3);
    let dump = home.dump();
    connection.close().await.unwrap();
    home.reopen().await;
    assert_eq!(home.dump(), dump);
}

#[tokio::test]
async fn a_commit_that_was_called_failed_but_reached_the_disk_is_removed() {
    let mut home = Home::new().await;
    let revision = home.store.revision();
    let mut connection = connect(&home).await;
    execute(&mut connection, "CREATE TRIGGER full BEFORE INSERT ON log BEGIN SELECT RAISE(ABORT, 'x'); END").await;
    home.create(Resource::Leases, config_map_like("a")).await.unwrap_err();
    execute(&mut connection, "DROP TRIGGER full").await;
    // As if the refused row had been written after all.
    sqlx::query("INSERT INTO log SELECT ?1, resource, namespace, name, 1, value FROM log WHERE revision = 1")
        .bind(revision as i64 + 1)
        .execute(&mut connection)
        .await
        .unwrap();
    let created = home.create(Resource::Leases, config_map_like("b")).await.unwrap();
    assert_eq!(created.object.revision, revision + 1);
    connection.close().await.unwrap();
    home.reopen().await;
    assert_eq!(home.names(Resource::Leases, "default"), ["b"]);
}
