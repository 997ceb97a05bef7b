import Foundation
import GrenacheFraming
import GrenacheIO
import GrenacheTransport
import TestSupport
import Testing

@Suite("put, get and keygen as commands", .timeLimit(.minutes(2)))
struct ItemCommandTests {
  private static let key =
    "e06d3183d14159228433ed599221b80bd0a5ce8352e4bdf0262f76786ef1c74d"
    + "b7e7a9fea2c0eb269d61e3b38e450a22e754941ac78479d6c54e1faf6037881d"
  private static let hello = "6d33adc2b6b2c14c3036feefb7fedbca1a880527"
  private static let salted = "411eba73b6f087ca51a3795d9c8c938d365e32c1"

  private let folder: TemporaryFolder

  init() throws { folder = try TemporaryFolder() }

  private func grape(bootstrap: String = "") async throws -> (RunningGrape, String, String) {
    let grape = try await RunningGrape(bootstrap: bootstrap)
    return (grape, grape.api, grape.dht)
  }

  private func grenache(_ api: String, _ arguments: String...) async throws -> Ended {
    try await run(
      Programs.grenache,
      arguments + ["--grape", api, "--tls-dir", GeneratedCertificates.directory("client")])
  }

  @Test("an immutable text: words, its hash, the text again, the raw answer; a miss is 69")
  func immutable() async throws {
    let (first, api, dht) = try await grape()
    let (second, otherAPI, _) = try await grape(bootstrap: dht)
    let put = try await grenache(api, "put", "hello", "world")
    #expect(put.output == Self.hello, "\(put.errors)")
    let input = try RunningCommand(
      Programs.grenache,
      ["put", "-", "--json", "-g", api, "--tls-dir", GeneratedCertificates.directory("client")])
    input.write("hello world")
    input.closeInput()
    #expect(await input.end().output == "{\"number\":null,\"target\":\"\(Self.hello)\"}")
    let got = try await grenache(otherAPI, "get", Self.hello, Self.hello.uppercased())
    #expect(got.output == "hello world\nhello world", "\(got.errors)")
    let raw = try await grenache(api, "get", "--raw", Self.hello)
    #expect(member("v", of: raw.output) == "hello world")
    let miss = try await grenache(api, "get", String(repeating: "0", count: 40))
    #expect(miss.status == 69 && miss.output.isEmpty, "\(miss.errors)")
    let noTarget = try await grenache(api, "get", "hello")
    #expect(noTarget.status == 64)
    #expect(await second.terminate() == 0)
    #expect(await first.terminate() == 0)
  }

  @Test("a mutable text with a key of the existing tools, and who may replace it")
  func mutable() async throws {
    let file = "\(folder.path)/key"
    try Data(Self.key.utf8).write(to: URL(filePath: file))
    try FileManager.default.setAttributes([.posixPermissions: 0o600], ofItemAtPath: file)
    let (grape, api, _) = try await grape()
    let key = ["-m", "-s", "foobar", "-k", file]
    func put(_ arguments: String...) async throws -> Ended {
      try await run(
        Programs.grenache,
        ["put"] + key + arguments
          + ["-t", "-g", api, "--tls-dir", GeneratedCertificates.directory("client")])
    }
    let first = try await put("-n", "1", "Hello World!")
    #expect(first.output == Self.salted, "\(first.errors)")
    let got = try await grenache(api, "get", "--salt", "foobar", "--raw", Self.salted)
    #expect(member("sig", of: got.output).hasPrefix("6834284b6b24c320"), "\(got.errors)")
    let again = try await put("-n", "1", "another")
    #expect(again.status == 70 && again.errors.contains("302 sequence number less"))
    let stale = try await put("-n", "2", "-c", "7", "another")
    #expect(stale.status == 70 && stale.errors.contains("301 CAS mismatch"))
    let swapped = try await put("-n", "2", "-c", "1", "another")
    #expect(swapped.output == Self.salted, "\(swapped.errors)")
    let byClock = try await put("by the clock")
    #expect(byClock.output == Self.salted, "\(byClock.errors)")
    let last = try await grenache(api, "get", "-s", "foobar", Self.salted)
    #expect(last.output == "by the clock", "\(last.errors)")
    #expect(await grape.terminate() == 0)
  }

  @Test(
    "wrong usage is 64, and a key that is not there 78",
    arguments: [
      (["put", "--salt", "s", "x"], 64, "belong to --mutable"),
      (["put", "-m", "-k", "/nowhere/key", "x"], 78, "grenache keygen"),
      (["put"], 64, "words"), (["put", String(repeating: "x", count: 1_000)], 64, "at most 999"),
      (["get", "x"], 64, "40 hexadecimal digits"),
      (["put", "x", "--tls", "--insecure-plaintext"], 64, "exclude each other"),
    ] as [([String], Int32, String)])
  func usage(_ arguments: [String], _ status: Int32, _ text: String) async throws {
    let tls =
      arguments.contains("--insecure-plaintext")
      ? [] : ["--tls-dir", try GeneratedCertificates.directory("client")]
    let ended = try await run(Programs.grenache, arguments + tls)
    #expect(ended.status == status && ended.errors.contains(text), "\(ended.errors)")
    #expect(ended.output.isEmpty)
  }

  @Test(
    "input is stored as it is, or refused with 65: too much of it, and what is no text",
    arguments: [
      ("printf '%0999d' 0", true), ("printf '%01000d' 0", false), ("printf '\\303'", false),
      ("printf '%0998d\\303\\251' 0", false), ("printf 'a\\n'", true),
    ])
  func input(_ command: String, _ isStored: Bool) async throws {
    // Where no grape is, what would be stored is unavailable.
    let ended = try await run(
      "/bin/sh", "-c", "\(command) | \"$0\" put - -g 127.0.0.1:1 --insecure-plaintext",
      Programs.grenache)
    #expect(ended.status == (isStored ? 69 : 65), "\(ended.errors)")
  }

  @Test("P20 what a grape forges is not printed: exit code 77")
  func forged() async throws {
    let server = try await HTTPServer(
      on: .loopback(port: 0), context: nil, configuration: HTTPServerConfiguration(),
      handlers: HTTPServerHandlers(respond: { _ in
        HTTPServerResponse(.ok, body: Array("{\"v\":\"hell world\"}".utf8))
      }),
      group: EventLoopGroup(count: 1),
      logger: quietLogger)
    let got = try await run(
      Programs.grenache, "get", Self.hello, "--grape", "\(server.localAddress)",
      "--insecure-plaintext")
    #expect(got.status == 77 && got.output.isEmpty)
    #expect(got.errors.contains("is not of that hash"), "\(got.errors)")
    await server.shutDown(within: .zero)
  }

  @Test("keygen: the public key on standard output; a key is replaced by --force only")
  func keygen() async throws {
    let file = "\(folder.path)/.grenache-cli/key"
    func keygen(_ arguments: String...) async throws -> Ended {
      try await run(
        "/usr/bin/env", ["HOME=\(folder.path)", Programs.grenache, "keygen"] + arguments)
    }
    func content(_ file: String) throws -> String {
      try String(contentsOfFile: file, encoding: .utf8)
    }
    let made = try await keygen()
    #expect(made.status == 0, "\(made.errors)")
    let key = try content(file)
    #expect(key.utf8.count == 128 && !(made.output + made.errors).contains(key))
    #expect(try content("\(file).pub") == made.output)
    let mode = try FileManager.default.attributesOfItem(atPath: file)[.posixPermissions]
    #expect(mode as? Int == 0o600)
    let again = try await keygen()
    #expect(again.status == 73 && again.errors.contains("--force"), "\(again.errors)")
    #expect(try content(file) == key)
    let forced = try await keygen("--force", "--json")
    #expect(member("publicKey", of: forced.output).utf8.count == 64, "\(forced.errors)")
    #expect(try content(file) != key)
    let nowhere = try await keygen("-k", "/proc/nowhere/key")
    #expect(nowhere.status == 73, "\(nowhere.errors)")
  }
}
