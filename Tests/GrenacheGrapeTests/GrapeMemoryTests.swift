import Foundation
import GrenacheDHT
import GrenacheIO
import GrenacheTLS
import GrenacheTransport
import Logging
import TestSupport
import Testing

@testable import GrenacheGrape

@Suite("P31 A grape restarts with its memory")
struct GrapeMemoryTests {
  let authority: TestAuthority

  init() throws { authority = try TestAuthority() }

  @Test("P31 what a crash leaves in the folder brings values, services and contacts back")
  func crash() async throws {
    let (host, client) = (try authority.host(), try authority.worker("svc"))
    let (folder, copy) = (try TemporaryFolder(), try TemporaryFolder())
    try await withGrape(tls: host) { first in
      try await withGrape(
        tls: host, bootstrap: [Endpoint(first.dht)],
        configure: { $0.stateFolder = folder.path }
      ) { second in
        try await waitUntilReady(second, as: client)
        for number in 0..<50 {
          _ = try await post("{\"data\":\"value \(number)\"}", "/put", to: second.api, as: client)
        }
        _ = try await post("{\"data\":[\"svc\",1]}", "/announce", to: second.api, as: client)
        // What is on disk at some moment is what a crash leaves.
        try await eventually {
          for name in ["grape.sqlite", "grape.sqlite-wal", "grape.sqlite-shm"] {
            try? copy.copy("\(folder.path)/\(name)")
          }
          let text = try query(copy.path, "SELECT count(*) FROM items")
          let peers = try query(copy.path, "SELECT count(*) FROM peers")
          let contacts = try query(copy.path, "SELECT count(*) FROM contacts")
          return text == "50" && peers == "1" && contacts == "1"
        }
      }
      let start = ContinuousClock.now
      // It knows no bootstrap node any more, only its memory.
      try await withGrape(tls: host, configure: { $0.stateFolder = copy.path }) { again in
        try await eventually {
          try await post("", "/status", to: again.api, as: client).body.contains("\"contacts\":1")
        }
        #expect(ContinuousClock.now - start < .seconds(2))
        let status = try await post("", "/status", to: again.api, as: client).body
        #expect(status.contains("\"values\":50") && status.contains("\"announcements\":1"))
        let found = try await post("{\"data\":\"svc\"}", "/lookup", to: again.api, as: client)
        #expect(found.body == "[\"127.0.0.1:1\"]")
      }
    }
  }

  @Test("P31 a damaged file is set aside, and the grape begins anew", arguments: [0, 100, 5_000])
  func damaged(_ offset: Int) async throws {
    let (host, client) = (try authority.host(), try authority.client())
    let folder = try TemporaryFolder()
    let path = "\(folder.path)/grape.sqlite"
    var garbage = Data("SQLite format 3\0".utf8)
    garbage.append(Data(repeating: 0xee, count: offset))
    if offset == 0 { garbage = Data("no database at all, and long enough to be one".utf8) }
    try garbage.write(to: URL(filePath: path))
    try await withGrape(tls: host, configure: { $0.stateFolder = folder.path }) { grape in
      let put = try await post("{\"data\":\"x\"}", "/put", to: grape.api, as: client)
      #expect(put.status == 200)
    }
    let names = try FileManager.default.contentsOfDirectory(atPath: folder.path)
    let aside = try #require(names.first { $0.hasPrefix("grape.sqlite.damaged-") })
    #expect(try Data(contentsOf: URL(filePath: "\(folder.path)/\(aside)")) == garbage)
    try await withGrape(tls: host, configure: { $0.stateFolder = folder.path }) { grape in
      let status = try await post("", "/status", to: grape.api, as: client).body
      #expect(status.contains("\"values\":1"))
    }
  }

  @Test("P31 what makes room in memory goes from the disk as well, and stays away")
  func evicted() async throws {
    let (host, client) = (try authority.host(), try authority.client())
    let folder = try TemporaryFolder()
    let configure: @Sendable (inout GrapeConfiguration) -> Void = {
      $0.stateFolder = folder.path
      $0.valuesMax = 10
    }
    try await withGrape(tls: host, configure: configure) { grape in
      let kept = try await KeptClient(client, grape.api)
      try await kept.post(0..<25, "/put") { "{\"data\":\"value \($0)\"}" }
      #expect(try await kept.status("values") == 10)
      try await eventually { try query(folder.path, "SELECT count(*) FROM items") == "10" }
    }
    let fewer: @Sendable (inout GrapeConfiguration) -> Void = {
      configure(&$0)
      $0.valuesMax = 4
    }
    try await withGrape(tls: host, configure: fewer) { grape in
      let kept = try await KeptClient(client, grape.api)
      #expect(try await kept.status("values") == 4)
      try await eventually { try query(folder.path, "SELECT count(*) FROM items") == "4" }
    }
  }

  @Test("P31 what could not be written is written later, what went meanwhile included")
  func locked() async throws {
    let (host, client) = (try authority.host(), try authority.client())
    let folder = try TemporaryFolder()
    let log = ErrorLog()
    let configure: @Sendable (inout GrapeConfiguration) -> Void = {
      $0.stateFolder = folder.path
      $0.valuesMax = 5
    }
    try await withGrape(tls: host, logger: Logger(label: "test") { _ in log }, configure: configure)
    { grape in
      let kept = try await KeptClient(client, grape.api)
      try await kept.post(0..<5, "/put") { "{\"data\":\"first \($0)\"}" }
      try await eventually { try query(folder.path, "SELECT count(*) FROM items") == "5" }
      let blocker = try SQLiteConnection(path: "\(folder.path)/grape.sqlite")
      try blocker.execute("BEGIN IMMEDIATE")
      try await kept.post(0..<30, "/put") { "{\"data\":\"second \($0)\"}" }
      for await message in log.messages {
        #expect(message == "state not written")
        break
      }
      #expect(try count(folder, (0..<5).map { "first \($0)" }) == "5", "as it was")
      try blocker.execute("COMMIT")
      var left: [String] = []
      for text in (0..<5).map({ "first \($0)" }) + (0..<30).map({ "second \($0)" }) {
        let got = try await kept.post("{\"data\":\"\(target(text))\"}", "/get").body
        if got.contains("\"v\":\"\(text)\"") { left.append(text) }
      }
      #expect(left.count == 5 && left.contains { $0.hasPrefix("second") })
      let expected = left
      try await eventually {
        try count(folder, expected) == "5"
          && query(folder.path, "SELECT count(*) FROM items") == "5"
      }
    }
  }

  @Test("P31 of 1,000 services the one that has changed is written, renewed ones every 10 s")
  func changedAlone() async throws {
    let folder = try TemporaryFolder()
    let store = try GrapeStore(folder: folder.path, logger: quietLogger)
    let rows = try await Self.rowsWritten(store, on: try EventLoopGroup.shared().next())
    // All of them with two identifiers; another; nothing; one gone and in its place another; the rest.
    #expect(rows == [1_002, 1, 0, 2, 1_998])
    #expect(try query(folder.path, "SELECT count(*) FROM peers") == "1001")
    let kept = try #require(try await store.load())
    #expect(Set(kept.peers.map(\.key)).count == 1_001)
    #expect(!kept.peers.contains { $0.key == key(1) })
  }

  private static func rowsWritten(
    _ store: GrapeStore, on loop: isolated EventLoop
  ) async throws -> [Int] {
    let driver = try DHTDriver(
      DHTConfiguration(), bindingTo: .loopback(port: 0), keepsMemory: true)
    try driver.start(on: loop)
    defer { driver.stop(on: loop) }
    var rows: [Int] = []
    func announce(_ numbers: Range<Int>) {
      for number in numbers {
        let peer = DHTAddress(ip: 0x0a00_0001, port: 1)
        _ = driver.keep(peer, of: key(number), for: nil, on: loop)
      }
    }
    func forget(_ number: Int) {
      _ = driver.forget(DHTAddress(ip: 0x0a00_0001, port: 1), for: key(number), on: loop)
    }
    announce(0..<1_000)
    rows.append(try await store.write(driver.takeMemory(isLast: false)))
    announce(1_000..<1_001)
    rows.append(try await store.write(driver.takeMemory(isLast: false)))
    announce(0..<1_000)
    rows.append(try await store.write(driver.takeMemory(isLast: false)))
    forget(1)
    announce(1_001..<1_002)
    let memory = driver.takeMemory(isLast: false)
    driver.giveBack(memory)
    rows.append(try await store.write(driver.takeMemory(isLast: false)))
    // As the store does at the end, and every ten seconds.
    rows.append(try await store.write(driver.takeMemory(isLast: true)))
    return rows
  }

  @Test("P31 after a burst the log gives its disk back, but for 4 MiB")
  func journal() async throws {
    let folder = try TemporaryFolder()
    let store = try GrapeStore(folder: folder.path, logger: quietLogger)
    func size() throws -> Int {
      try Data(contentsOf: URL(filePath: "\(folder.path)/grape.sqlite-wal")).count
    }
    var memory = GrapeMemory(
      ids: DHTNodeIDs(ipv4: NodeID(prefixOf: [1]), ipv6: NodeID(prefixOf: [1])), contacts: [],
      peers: [], items: [])
    memory.items = (0..<10_000).map { number in
      let value = DHTItem(value: [UInt8](repeating: 7, count: 900))
      return DHTNode.KeptItem(
        target: key(number), item: value, remaining: .seconds(60), isOwn: false)
    }
    try await store.write(memory)
    #expect(try size() > 2 * GrapeStore.journalBytesMax)
    memory.items = [memory.items[0]]
    try await store.write(memory)
    #expect(try size() <= GrapeStore.journalBytesMax)
  }

  @Test("P31 another identifier is written down, though the contacts are the same")
  func identifiers() async throws {
    let folder = try TemporaryFolder()
    let store = try GrapeStore(folder: folder.path, logger: quietLogger)
    var memory = GrapeMemory(
      ids: DHTNodeIDs(ipv4: NodeID(prefixOf: [1]), ipv6: NodeID(prefixOf: [1])), contacts: [],
      peers: [], items: [])
    try await store.write(memory)
    memory.ids.ipv6 = NodeID(prefixOf: [2])
    try await store.write(memory)
    #expect(try await store.write(memory) == 0)
    #expect(try await store.load()?.ids == memory.ids)
  }

  /// How many of these values are on disk.
  private func count(_ folder: TemporaryFolder, _ texts: [String]) throws -> String {
    let targets = texts.map { "X'\(target($0))'" }.joined(separator: ",")
    return try query(folder.path, "SELECT count(*) FROM items WHERE target IN (\(targets))")
  }

  @Test("P31 what has expired by the wall clock alone stays on disk until the grape starts anew")
  func clock() async throws {
    let folder = try TemporaryFolder()
    func memory(_ text: String, _ remaining: Duration) -> GrapeMemory {
      let item = DHTItem(value: Array("\(text.utf8.count):\(text)".utf8))
      let id = NodeID(prefixOf: [1])
      return GrapeMemory(
        ids: DHTNodeIDs(ipv4: id, ipv6: id), contacts: [], peers: [],
        items: [
          .init(
            target: Digest.sha1(item.value), item: item, remaining: remaining, isOwn: false)
        ])
    }
    let store = try GrapeStore(folder: folder.path, logger: quietLogger)
    // As the clock shows it after a jump: it expires this very second.
    try await store.write(memory("one", .zero))
    try await store.write(memory("two", .seconds(60)))
    #expect(try query(folder.path, "SELECT count(*) FROM items") == "2")
    #expect(try await store.load()?.items.count == 1)
    #expect(try query(folder.path, "SELECT count(*) FROM items") == "1")
  }

  @Test(
    "P31 that the wall clock jumped, not that it drifts within 5 s, is noticed once",
    arguments: [
      (5, false), (-5, false), (6, true), (-6, true), (1 << 40, true), (-(1 << 40), true),
    ] as [(Int64, Bool)])
  func clockJumps(_ seconds: Int64, _ expected: Bool) {
    var jumps = ClockJumps()
    func hasJumped(_ wall: Int64, _ monotonic: UInt64) -> Bool {
      jumps.hasJumped(
        wall: wall, monotonic: MonotonicTime(nanoseconds: monotonic * 1_000_000_000))
    }
    #expect(!hasJumped(1_800_000_000, 100) && !hasJumped(1_800_000_900, 1_000))
    #expect(hasJumped(1_800_000_900 + seconds, 1_000) == expected)
    #expect(!hasJumped(1_800_001_900 + seconds, 2_000))
    #expect(!hasJumped(.min, UInt64.max / 1_000_000_000), "no trap")
  }

  @Test("P31 after a jump of the wall clock everything is written anew, once")
  func jumped() async throws {
    try await Self.writeAfterJump(on: try EventLoopGroup.shared().next())
  }

  private static func writeAfterJump(on loop: isolated EventLoop) async throws {
    let folder = try TemporaryFolder()
    let store = try GrapeStore(folder: folder.path, logger: quietLogger)
    let driver = try DHTDriver(
      DHTConfiguration(), bindingTo: .loopback(port: 0), keepsMemory: true)
    try driver.start(on: loop)
    defer { driver.stop(on: loop) }
    _ = driver.node.put(DHTItem(value: Array("1:x".utf8)), compareAndSwap: nil, now: driver.now)
    _ = driver.node.keep(DHTAddress(ip: 0x0808_0808, port: 1), for: [1], now: driver.now)
    _ = driver.takeMemory(isLast: false)
    // No more than the identifiers.
    try await store.write(driver.takeMemory(isLast: false))
    #expect(try query(folder.path, "SELECT count(*) FROM items") == "0")
    var jumps = ClockJumps()
    _ = jumps.hasJumped(wall: 0, monotonic: .now())
    driver.clockJumps = jumps
    try await store.write(driver.takeMemory(isLast: false))
    #expect(try query(folder.path, "SELECT count(*) FROM items") == "1")
    #expect(try query(folder.path, "SELECT count(*) FROM peers") == "1")
    #expect(!driver.takeMemory(isLast: false).hasNews)
  }

  @Test("P31 a folder that cannot be used is an error at the start, and says so")
  func noFolder() async throws {
    let host = try authority.host()
    let error = await #expect(throws: GrapeError.self) {
      try await withGrape(tls: host, configure: { $0.stateFolder = "/dev/null/x" }) { _ in }
    }
    #expect(error?.description.contains("/dev/null/x") == true)
  }

}

private func key(_ number: Int) -> [UInt8] { Array("key \(number)".utf8) }

/// Where a text is stored (BEP 44).
func target(_ text: String) -> String {
  Digest.hex(Digest.sha1(Array("\(text.utf8.count):\(text)".utf8)))
}

/// The number that a query of a grape's state gives; empty when there is none.
func query(_ folder: String, _ sql: String) throws -> String {
  let rows = try? SQLiteConnection(path: "\(folder)/grape.sqlite").rows(sql)
  guard case .integer(let count)? = rows?.first?.first else { return "" }
  return "\(count)"
}

@Suite("P31 A grape that is killed")
struct GrapeCrashTests {
  let authority: TestAuthority
  let certificates: TemporaryFolder
  let state: TemporaryFolder

  init() throws {
    authority = try TestAuthority()
    certificates = try TemporaryFolder()
    state = try TemporaryFolder()
    try authority.authority.write(
      .init(commonName: "host", dnsNames: ["localhost"], ipAddresses: ["127.0.0.1"]),
      toDirectory: certificates.path)
  }

  private func start(
    dhtPort: UInt16 = 0, bootstrap: String = ""
  ) async throws -> GrapeCommandProcess {
    try await .start(
      certificates: certificates.path, state: state.path, dhtPort: dhtPort, bootstrap: bootstrap)
  }

  @Test("P31 kill -9 while it writes: 3,000 values, 1,000 services and the network back in 1 s")
  func killed() async throws {
    let (host, worker) = (try authority.host(), try authority.worker("svc:*"))
    try await withGrape(tls: host) { other in
      var grape = try await start(bootstrap: "\(other.dht)")
      var client = try await KeptClient(worker, grape.api)
      try await eventually { try await client.status("contacts") == 1 }
      // One caller has half of the values at most.
      let second = try await KeptClient(try authority.client(), grape.api)
      try await second.post(0..<1_500, "/put") { "{\"data\":\"value \($0)\"}" }
      try await client.post(1_500..<3_000, "/put") { "{\"data\":\"value \($0)\"}" }
      try await client.post(0..<1_000, "/announce") { "{\"data\":[\"svc:\($0)\",\($0 + 1)]}" }
      try await eventually {
        try query(state.path, "SELECT count(*) FROM items") == "3000"
          && query(state.path, "SELECT count(*) FROM peers") == "1000"
      }
      var times: [Duration] = []
      for round in 0..<3 {
        try await killWhileWriting(grape, client, round)
        let begin = ContinuousClock.now
        // It is told of nobody any more: the network is in its memory.
        grape = try await start(dhtPort: grape.dht.port)
        client = try await KeptClient(worker, grape.api)
        try await eventually { try await client.status("contacts") == 1 }
        times.append(ContinuousClock.now - begin)
        try await expectEverything(client, other, grape, worker)
      }
      // Of three, for other processes may need the processor just then.
      #expect(times.min() ?? .seconds(9) < .seconds(1), "\(times)")
    }
  }

  private func killWhileWriting(
    _ grape: GrapeCommandProcess, _ client: KeptClient, _ round: Int
  ) async throws {
    let before = try await client.status("values")
    let writing = Task {
      try? await client.post(0..<500, "/put") { "{\"data\":\"more \(round) \($0)\"}" }
    }
    try await eventually { try await client.status("values") > before + 50 }
    grape.kill()
    await writing.value
  }

  private func expectEverything(
    _ client: KeptClient, _ other: GrapeNode.Addresses, _ grape: GrapeCommandProcess,
    _ worker: TLSConfiguration
  ) async throws {
    #expect(try await client.status("values") >= 3_000)
    #expect(try await client.status("announcements") == 1_000)
    for number in stride(from: 0, to: 3_000, by: 100) {
      let got = try await client.post(
        "{\"data\":\"\(target("value \(number)"))\"}", "/get"
      ).body
      #expect(got.contains("\"v\":\"value \(number)\""), "\(got)")
      let found = try await client.post("{\"data\":\"svc:\(number / 3)\"}", "/lookup").body
      #expect(found == "[\"127.0.0.1:\(number / 3 + 1)\"]")
    }
    try await eventually {
      try await post("", "/nodes", to: other.api, as: worker).body.contains("\"\(grape.dht)\"")
    }
  }

  @Test(
    "P31 a file that was damaged meanwhile is set aside, not fatal", arguments: [0, 100, 4_096])
  func damaged(_ offset: Int) async throws {
    let worker = try authority.worker("svc")
    let first = try await start()
    var client = try await KeptClient(worker, first.api)
    try await client.post(0..<200, "/put") { "{\"data\":\"value \($0)\"}" }
    try await eventually { try query(state.path, "SELECT count(*) FROM items") == "200" }
    first.kill()
    // What is in the log goes into the file, as at any start.
    #expect(try query(state.path, "PRAGMA wal_checkpoint(TRUNCATE)") == "0")
    let file = URL(filePath: "\(state.path)/grape.sqlite")
    var bytes = try Data(contentsOf: file)
    #expect(bytes.count > 20_000)
    for index in offset..<(offset + 4_096) { bytes[index] = 0xee }
    try bytes.write(to: file)
    let second = try await start()
    client = try await KeptClient(worker, second.api)
    #expect(try await client.status("values") == 0)
    #expect(try await client.post("{\"data\":\"anew\"}", "/put").status == 200)
    let names = try FileManager.default.contentsOfDirectory(atPath: state.path)
    let aside = try #require(names.first { $0.hasPrefix("grape.sqlite.damaged-") })
    #expect(try Data(contentsOf: URL(filePath: "\(state.path)/\(aside)")) == bytes)
  }

  @Test("the metrics of the command are what the Prometheus format asks for")
  func metrics() async throws {
    let grape = try await start()
    let client = try await KeptClient(try authority.worker("svc"), grape.api)
    _ = try await client.post("{\"data\":[\"svc\",1]}", "/announce")
    _ = try await client.post("{\"data\":[\"other\",1]}", "/announce")
    // An address that the certificate does not bear is a denial as well.
    let foreign = try await client.post("{\"data\":[\"svc\",1,\"10.9.8.7\"]}", "/announce")
    #expect(foreign.status == 403)
    _ = try await client.post("{\"data\":\"svc\"}", "/lookup")
    _ = try await client.post("garbage", "/lookup")
    for _ in 0..<2 {
      let page = try PrometheusPage(try await client.post("", "/metrics").body)
      #expect(page.kinds.count >= 10)
      #expect(page.values["grenache_grape_announces_total"] == 2)
      #expect(page.values["grenache_denials_total|right=announce"] == 2)
      #expect(page.values["grenache_grape_refused_requests_total"] == 1)
      #expect(page.values["grenache_dht_announcements"] == 1)
      #expect(page.values["grenache_dht_peer_lookups_total"] == 1)
    }
  }
}
