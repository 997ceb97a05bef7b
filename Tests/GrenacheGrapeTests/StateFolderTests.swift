import Foundation
import GrenacheDHT
import GrenacheIO
import GrenacheTLS
import GrenacheTransport
import Logging
import TestSupport
import Testing

@testable import GrenacheGrape

@Suite("P31 The folder of a grape's state")
struct StateFolderTests {
  let authority: TestAuthority
  let folder: TemporaryFolder

  init() throws {
    authority = try TestAuthority()
    folder = try TemporaryFolder()
  }

  private var path: String { "\(folder.path)/grape.sqlite" }

  private func mode(_ file: String) throws -> Int {
    let attributes = try FileManager.default.attributesOfItem(atPath: file)
    return (attributes[.posixPermissions] as? NSNumber)?.intValue ?? -1
  }

  private func damagedFiles() throws -> [String] {
    try FileManager.default.contentsOfDirectory(atPath: folder.path)
      .filter {
        $0.hasPrefix("grape.sqlite.damaged-") && !$0.hasSuffix("-wal") && !$0.hasSuffix("-shm")
      }
  }

  private func memory(_ values: Range<Int>) -> GrapeMemory {
    let id = NodeID(prefixOf: [1])
    var memory = GrapeMemory(
      ids: DHTNodeIDs(ipv4: id, ipv6: id), contacts: [], peers: [], items: [])
    memory.items = values.map {
      DHTNode.KeptItem(
        target: [UInt8($0)], item: DHTItem(value: [1]), remaining: .seconds(60), isOwn: false)
    }
    return memory
  }

  @Test("what is in it is for its owner alone, even in a folder that all may read")
  func modes() async throws {
    try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: folder.path)
    // One that was there before, and that everybody could read.
    try Data().write(to: URL(filePath: path))
    try FileManager.default.setAttributes([.posixPermissions: 0o644], ofItemAtPath: path)
    let store = try GrapeStore(folder: folder.path, logger: quietLogger)
    _ = try await store.write(memory(0..<10))
    for name in ["grape.sqlite", "grape.sqlite-wal", "grape.sqlite-shm", "grape.lock"] {
      #expect(try mode("\(folder.path)/\(name)") == 0o600, "\(name)")
    }
  }

  @Test("one grape at a time uses it: a second one says so, and does no harm")
  func locked() async throws {
    let (host, client) = (try authority.host(), try authority.client())
    let path = folder.path
    try await withGrape(tls: host, configure: { $0.stateFolder = path }) { grape in
      _ = try await post("{\"data\":\"x\"}", "/put", to: grape.api, as: client)
      let error = await #expect(throws: GrapeError.self) {
        try await withGrape(tls: host, configure: { $0.stateFolder = path }) { _ in }
      }
      #expect(error?.description.contains("in use") == true)
      #expect(error?.description.contains(path) == true)
      try await eventually { try query(path, "SELECT count(*) FROM items") == "1" }
    }
    // It is free again with the end.
    try await withGrape(tls: host, configure: { $0.stateFolder = path }) { grape in
      let kept = try await KeptClient(client, grape.api)
      #expect(try await kept.status("values") == 1)
    }
  }

  @Test(
    "a file with other tables is set aside, and the grape begins anew",
    arguments: [
      "CREATE TABLE contacts (x); CREATE TABLE ids (y)",
      "CREATE TABLE peers (key BLOB); PRAGMA user_version=1", "CREATE VIEW items AS SELECT 1",
    ])
  func otherTables(_ tables: String) async throws {
    try SQLiteConnection(path: path).execute(tables)
    let (host, client) = (try authority.host(), try authority.client())
    let path = folder.path
    for round in 0..<2 {
      try await withGrape(tls: host, configure: { $0.stateFolder = path }) { grape in
        let kept = try await KeptClient(client, grape.api)
        _ = try await kept.post("{\"data\":\"x\(round)\"}", "/put")
        #expect(try await kept.status("values") == round + 1)
      }
    }
    #expect(try damagedFiles().count == 1)
  }

  @Test("damage that shows while it runs: the file is set aside, and everything is written anew")
  func damagedMeanwhile() async throws {
    let (host, client) = (try authority.host(), try authority.worker("svc"))
    let path = folder.path
    let log = ErrorLog()
    let logger = Logger(label: "test") { _ in log }
    try await withGrape(tls: host, logger: logger, configure: { $0.stateFolder = path }) { grape in
      let kept = try await KeptClient(client, grape.api)
      try await kept.post(0..<20, "/put") { "{\"data\":\"value \($0)\"}" }
      _ = try await kept.post("{\"data\":[\"svc\",1]}", "/announce")
      try await eventually {
        try query(path, "SELECT count(*) FROM items") == "20"
          && query(path, "SELECT count(*) FROM peers") == "1"
      }
      try SQLiteConnection(path: "\(path)/grape.sqlite").execute(
        "DROP TABLE items; DROP TABLE peers; CREATE TABLE peers (x)")
      _ = try await kept.post("{\"data\":\"another\"}", "/put")
      try await eventually {
        try query(path, "SELECT count(*) FROM items") == "21"
          && query(path, "SELECT count(*) FROM peers") == "1"
      }
      // And the new file is written on as the old one was.
      try await kept.post(20..<40, "/put") { "{\"data\":\"value \($0)\"}" }
      try await eventually { try query(path, "SELECT count(*) FROM items") == "41" }
      var messages = log.messages.makeAsyncIterator()
      #expect(await messages.next() == "state not written")
      #expect(await messages.next()?.contains("set aside") == true)
    }
    #expect(try damagedFiles().count == 1)
  }

  @Test(
    "the longer it cannot be written, the longer are the pauses",
    arguments: [
      (0, 100), (1, 200), (2, 400), (5, 3_200), (8, 25_600), (9, 30_000), (1_000, 30_000),
    ])
  func pauses(_ failures: Int, _ milliseconds: Int) {
    #expect(GrapeStore.pause(after: failures) == .milliseconds(milliseconds))
  }

  @Test("P31 what is acknowledged while the grape ends is written, too")
  func lastWrite() async throws {
    let path = folder.path
    var configuration = GrapeConfiguration.insecurePlaintext(apiPort: 0, dhtPort: 0)
    configuration.stateFolder = path
    var log = ErrorLog()
    log.logLevel = .info
    let handler = log
    let grape = GrapeNode(configuration, logger: Logger(label: "test") { _ in handler })
    let (started, continuation) = AsyncStream.makeStream(of: GrapeNode.Addresses.self)
    let running = Task { try await grape.run { continuation.yield($0) } }
    var addresses = started.makeAsyncIterator()
    let api = try #require(await addresses.next()).api
    let connection = try PlainConnection(api)
    #expect(try connection.post(Array("{\"data\":\"first\"}".utf8), "/put").status == 200)
    let body = "{\"data\":\"last\"}"
    try connection.sendHead("/put", "Content-Length: \(body.utf8.count)")
    // The head has to be there before the end begins: an answer to a later request says so.
    let other = try PlainConnection(api)
    #expect(try other.post(Array("{\"data\":\"x\"}".utf8), "/lookup").status == 200)
    running.cancel()
    for await message in handler.messages where message == "shutting down" { break }
    try connection.send(body)
    #expect(try connection.answer().status == 200)
    _ = try? await running.value
    #expect(try query(path, "SELECT count(*) FROM items") == "2")
  }
}
