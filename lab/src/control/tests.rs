use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

use proxy_agent::workloads::protocol::short;

use super::*;

#[test]
fn descriptors_travel_with_the_text() {
    let (here, there) = UnixStream::pair().unwrap();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(b"inside").unwrap();
    assert_eq!(descriptors::send(&here, b"hello\n", &[file.as_raw_fd()]).unwrap(), 6);
    let mut buffer = [0; 64];
    let (count, received) = descriptors::receive(&there, &mut buffer).unwrap();
    assert_eq!(&buffer[..count], b"hello\n");
    let [received] = <[_; 1]>::try_from(received).unwrap();
    let mut received = File::from(received);
    received.rewind().unwrap();
    let mut text = String::new();
    received.read_to_string(&mut text).unwrap();
    assert_eq!(text, "inside");
}

#[tokio::test]
async fn a_long_directory_still_has_a_socket_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let deep = dir.path().join("x".repeat(120));
    std::fs::create_dir(&deep).unwrap();
    File::create(socket_path(&deep)).unwrap();
    let listener = bind(&deep).unwrap();
    let (_dir, path) = short(&socket_path(&deep)).unwrap();
    UnixStream::connect(path).unwrap();
    listener.accept().unwrap();
    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(socket_path(&deep)).unwrap());
    assert_eq!(mode & 0o777, 0o600);
}
