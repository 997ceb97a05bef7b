import Foundation
import GrenacheGrape
import GrenacheIO
import GrenacheTLS
import GrenacheTransport
import Synchronization
import TestSupport
import Testing

/// Python with the packages of `make setup`.
private enum Python {
  static let path = "\(GeneratedCertificates.packageRoot)/.venv/bin/python"
  static let scripts = "\(GeneratedCertificates.packageRoot)/Tests/Interop"
  static let exists = FileManager.default.isExecutableFile(atPath: path)
  /// Whether tests run that need it, and those that need libtorrent.
  static let isExpected = Interoperation.isRequired || exists
  static let isLibtorrentExpected =
    Interoperation.isRequired || exists && run("import libtorrent")

  private static func run(_ code: String) -> Bool {
    let process = Process()
    process.executableURL = URL(filePath: path)
    process.arguments = ["-c", code]
    process.standardError = FileHandle.nullDevice
    guard (try? process.run()) != nil else { return false }
    process.waitUntilExit()
    return process.terminationStatus == 0
  }
}

/// A script that is told lines and answers with lines; it ends with the last reference to it.
private final class Script: Sendable {
  private let process: Mutex<Process>
  private let input = Pipe()
  private let lines: AsyncStream<String>

  init(_ name: String, _ arguments: [String]) throws {
    let process = Process()
    process.executableURL = URL(filePath: Python.path)
    process.arguments = ["\(Python.scripts)/\(name)"] + arguments
    let output = Pipe()
    process.standardInput = input
    process.standardOutput = output
    let (lines, continuation) = AsyncStream.makeStream(of: String.self)
    self.lines = lines
    self.process = Mutex(process)
    try process.run()
    let handle = output.fileHandleForReading
    Thread.detachNewThread {
      var rest = Data()
      while true {
        let data = handle.availableData
        if data.isEmpty { break }
        rest += data
        while let newline = rest.firstIndex(of: 0x0a) {
          continuation.yield(String(decoding: rest[..<newline], as: UTF8.self))
          rest = Data(rest[rest.index(after: newline)...])
        }
      }
      continuation.finish()
    }
  }

  deinit {
    process.withLock { if $0.isRunning { $0.terminate() } }
  }

  func tell(_ line: String) {
    input.fileHandleForWriting.write(Data("\(line)\n".utf8))
  }

  func next() async -> String {
    for await line in lines { return line }
    return ""
  }

  func ask(_ line: String) async -> String {
    tell(line)
    return await next()
  }
}

@Suite("Interoperation: KRPC and libtorrent", .timeLimit(.minutes(5)))
struct InteropTests {
  let authority: TestAuthority

  init() throws { authority = try TestAuthority() }

  @Test(
    "tests with others' programs are required where a variable says so",
    arguments: [
      ([:], false), (["REQUIRE_INTEROP": ""], false), (["REQUIRE_INTEROP": "0"], false),
      (["REQUIRE_INTEROP": "1"], true),
    ] as [([String: String], Bool)])
  func required(_ environment: [String: String], _ isRequired: Bool) {
    #expect(Interoperation.isRequired(in: environment) == isRequired)
  }

  @Test(
    "a script that speaks KRPC itself: tokens, errors 203 to 207, 301, 302, and what is no message",
    .enabled(if: Python.isExpected))
  func krpc() async throws {
    let client = try authority.client()
    try await withGrape(tls: try authority.host()) { grape in
      let script = try Script("krpc_probe.py", ["127.0.0.1", "\(grape.dht.port)"])
      let answer = await script.next()
      #expect(answer.hasPrefix("ok "), "\(answer)")
      // Everything bad was counted by what was wrong with it.
      let kept = try await KeptClient(client, grape.api)
      let status = try await kept.post("", "/status").body
      let members = try JSONSerialization.jsonObject(with: Data(status.utf8)) as? [String: Any]
      let dropped = try #require(members?["dropped"] as? [String: Int])
      #expect((dropped["malformed"] ?? 0) >= 8 && (dropped["invalidField"] ?? 0) >= 2)
      #expect(dropped["oversized"] == 3)
      let errors = try #require(members?["errorsSent"] as? [String: Int])
      for code in ["203", "204", "205", "206", "207", "301", "302"] {
        #expect((errors[code] ?? 0) > 0, "\(code)")
      }
    }
  }

  @Test(
    "201 for an address that stores too much, 202 for a store that is full",
    .enabled(if: Python.isExpected))
  func krpcLimits() async throws {
    let configure: @Sendable (inout GrapeConfiguration) -> Void = {
      $0.servicesMax = 20
      $0.announcementsPerLoopbackAddressMax = 30
    }
    try await withGrape(tls: try authority.host(), configure: configure) { grape in
      let script = try Script("krpc_probe.py", ["127.0.0.1", "\(grape.dht.port)", "20", "30"])
      let answer = await script.next()
      #expect(answer.hasPrefix("ok "), "\(answer)")
    }
  }

  @Test(
    "libtorrent bootstraps from a grape; announcements and values go both ways",
    .enabled(if: Python.isLibtorrentExpected))
  func libtorrent() async throws {
    let key = "aaaaaaaaaaaaaaaaaaaa"
    let hex = String(repeating: "61", count: 20)
    let client = try authority.worker(key)
    let host = try authority.host()
    try await withGrape(tls: host) { router in
      try await withGrape(tls: host, bootstrap: [Endpoint(router.dht)]) { grape in
        try await waitUntilReady(grape, as: client)
        try await exchange(router, grape, key, hex, client)
      }
    }
  }

  /// libtorrent asks `router` first, as it asks bootstrap nodes, and learns of `grape` from it.
  private func exchange(
    _ router: GrapeNode.Addresses, _ grape: GrapeNode.Addresses, _ key: String, _ hex: String,
    _ client: TLSConfiguration
  ) async throws {
    let peer = try Script("libtorrent_node.py", ["127.0.0.1", "\(router.dht.port)"])
    #expect(await peer.next() == "ready")
    try await eventually {
      try await post("", "/status", to: grape.api, as: client).body.contains("\"contacts\":2")
    }
    // From us to it.
    let stored = try await post(
      "{\"data\":[\"\(key)\",4321]}", "/announce", to: grape.api, as: client)
    #expect(stored.body == "2")
    #expect(await peer.ask("get_peers \(hex)") == "peers 127.0.0.1:4321")
    let put = try await post("{\"data\":\"from the grape\"}", "/put", to: grape.api, as: client)
    let target = put.body.filter { $0 != "\"" }
    #expect(await peer.ask("get \(target)") == "got from the grape")
    // From it to us.
    let answer = await peer.ask("put from-libtorrent").split(separator: " ")
    let theirs = answer.count > 1 ? String(answer[1]) : ""
    let got = try await post("{\"data\":\"\(theirs)\"}", "/get", to: grape.api, as: client)
    #expect(got.body.contains("\"v\":\"from-libtorrent\""), "\(answer) \(got.body)")
    try await mutable(peer, grape, client)
    _ = await peer.ask("announce \(String(repeating: "62", count: 20)) 5555")
    let other = String(repeating: "b", count: 20)
    try await eventually {
      try await post("{\"data\":\"\(other)\"}", "/lookup", to: grape.api, as: client).body
        == "[\"127.0.0.1:5555\"]"
    }
  }

  private func mutable(
    _ peer: Script, _ grape: GrapeNode.Addresses, _ client: TLSConfiguration
  ) async throws {
    let theirs = await peer.ask("mput theirs").split(separator: " ")
    let theirKey = theirs.count > 1 ? String(theirs[1]) : ""
    let theirTarget = Digest.hex(Digest.sha1(Digest.bytes(hex: theirKey, count: 32) ?? []))
    try await eventually {
      try await post("{\"data\":\"\(theirTarget)\"}", "/get", to: grape.api, as: client).body
        .contains("\"v\":\"theirs\"")
    }
    let seed = [UInt8](repeating: 9, count: 32)
    let key = try #require(Ed25519.publicKey(seed: seed))
    let signature = try #require(Ed25519.sign(Array("3:seqi1e1:v4:ours".utf8), seed: seed))
    let put = try await post(
      "{\"data\":{\"v\":\"ours\",\"k\":\"\(Digest.hex(key))\",\"sig\":\"\(Digest.hex(signature))\","
        + "\"seq\":1}}", "/put", to: grape.api, as: client)
    #expect(put.body == "\"\(Digest.hex(Digest.sha1(key)))\"")
    #expect(await peer.ask("mget \(Digest.hex(key))") == "mgot ours")
  }
}
