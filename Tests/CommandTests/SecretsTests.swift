import Foundation
import TestSupport
import Testing

@Suite("P42 No secrets in logs, pages, errors or arguments", .timeLimit(.minutes(2)))
struct SecretsTests {
  private static let passphrase = "correct-horse-7391-battery"
  private let folder: TemporaryFolder
  private let identity: [String]

  /// A server whose key is encrypted and that shares a secret for its sessions.
  init() async throws {
    folder = try TemporaryFolder(copying: GeneratedCertificates.directory("server"))
    try Data("\(Self.passphrase)\n".utf8).write(to: URL(filePath: "\(folder.path)/passphrase"))
    try Data(Self.secret("session", 48).utf8).write(to: URL(filePath: "\(folder.path)/secret"))
    try FileManager.default.setAttributes(
      [.posixPermissions: 0o600], ofItemAtPath: "\(folder.path)/secret")
    let encrypted = try await run(
      Programs.openssl, "pkcs8", "-topk8", "-in", "\(folder.path)/key.pem", "-passout",
      "file:\(folder.path)/passphrase", "-out", "\(folder.path)/encrypted.pem")
    #expect(encrypted.status == 0)
    identity = [
      "--tls-cert", "\(folder.path)/cert.pem", "--tls-key", "\(folder.path)/encrypted.pem",
      "--tls-ca", "\(folder.path)/ca.pem", "--tls-session-secret", "\(folder.path)/secret",
      "--tls-passphrase-file",
    ]
  }

  private static func secret(_ seed: String, _ count: Int) -> String {
    String(String(repeating: "\(seed)-4711-", count: count).prefix(count))
  }

  /// What must not be seen: the passphrase, the secret, and any line of the key.
  private func secrets() throws -> [String] {
    let key = try String(contentsOfFile: "\(folder.path)/key.pem", encoding: .utf8)
    let encrypted = try String(contentsOfFile: "\(folder.path)/encrypted.pem", encoding: .utf8)
    let lines = (key + encrypted).split(separator: "\n").map(String.init)
    return [Self.passphrase, Self.secret("session", 48)] + lines.filter { !$0.contains("-----") }
  }

  private func check(_ text: String, _ what: String) throws {
    for secret in try secrets() { #expect(!text.contains(secret), "\(what) has a secret") }
  }

  @Test("a server, a grape and their clients, at every level of the log")
  func processes() async throws {
    let passphrase = ["\(folder.path)/passphrase", "--log-level", "trace"]
    let grape = try RunningCommand(
      Programs.grape,
      ["--dp", "0", "--aph", "0", "--bn", "", "-b", "127.0.0.1", "--json"] + identity + passphrase)
    let api = await grape.firstLine()
    let worker = try RunningCommand(
      Programs.grenache,
      [
        "serve", "rpc_test", "--port", "0", "--json", "--reply", "world", "--grape",
        member("api", of: api),
      ] + identity + passphrase)
    let started = await worker.firstLine()
    let address = "127.0.0.1:\(port(of: member("address", of: started)))"
    let client = try GeneratedCertificates.directory("client")
    var transcript = api + started
    for arguments in [
      ["call", "rpc_test", "hello", "--to", address, "--log-level", "trace"],
      [
        "call", "rpc_test", "hello", "--to", address, "--log-level", "trace",
        "--insecure-plaintext",
      ],
      ["tls", "probe", address, "--json"],
    ] {
      let tls = arguments.contains("--insecure-plaintext") ? [] : ["--tls-dir", client]
      let ended = try await run(Programs.grenache, arguments + tls)
      transcript += ended.output + ended.errors
    }
    let garbage = try await run(Programs.curl, "-s", "-i", "http://\(address)/")
    let refused = try await run(
      Programs.curl, "-s", "-i", "-k", "--cert", "\(client)/cert.pem", "--key",
      "\(client)/key.pem", "https://\(address)/healthz")
    transcript += garbage.output + refused.output
    for page in ["metrics", "status", "healthz"] {
      let shown = try await run(
        Programs.curl, "-s", "-k", "--cert", "\(client)/cert.pem", "--key", "\(client)/key.pem",
        "https://\(member("api", of: api))/\(page)")
      #expect(shown.output.count > (page == "healthz" ? 0 : 50), "\(page): \(shown.errors)")
      transcript += shown.output
    }
    #expect(refused.output.contains("HTTP/1.1 "))
    for command in [grape, worker] {
      let status = await command.terminate()
      #expect(status == 0)
      transcript += command.errors
    }
    #expect(transcript.contains("listening"))
    try check(transcript, "the transcript")
  }

  @Test("arguments and environment of a process")
  func arguments() async throws {
    let worker = try RunningCommand(
      Programs.grenache,
      ["serve", "rpc_test", "--port", "0", "--json", "--no-announce", "--echo"] + identity
        + ["\(folder.path)/passphrase"])
    _ = await worker.firstLine()
    for name in ["cmdline", "environ"] {
      let data = try Data(contentsOf: URL(filePath: "/proc/\(worker.processIdentifier)/\(name)"))
      #expect(!data.isEmpty)
      try check(String(decoding: data, as: UTF8.self), name)
    }
    _ = await worker.terminate()
  }

  @Test("errors about a passphrase that is wrong, or a file that is none")
  func errors() async throws {
    try Data("\(Self.passphrase)-not\n".utf8).write(to: URL(filePath: "\(folder.path)/wrong"))
    for file in ["wrong", "secret", "nowhere"] {
      let ended = try await run(
        Programs.grenache,
        ["serve", "rpc_test", "--port", "0", "--no-announce", "--echo"] + identity
          + ["\(folder.path)/\(file)"])
      #expect(ended.status == 78, "\(ended.errors)")
      #expect(ended.errors.contains(file == "nowhere" ? "nowhere" : "encrypted.pem"))
      try check(ended.output + ended.errors, file)
    }
  }

  @Test("keys are logged with a warning, and only when that was asked for")
  func keyLog() async throws {
    let worker = try RunningCommand(
      Programs.grenache,
      [
        "serve", "rpc_test", "--port", "0", "--json", "--no-announce", "--reply", "world",
        "--insecure-key-log", "\(folder.path)/keys", "--tls-dir",
        try GeneratedCertificates.directory("worker"),
      ])
    let address = "127.0.0.1:\(port(of: member("address", of: await worker.firstLine())))"
    let called = try await run(
      Programs.grenache, "call", "rpc_test", "hello", "--to", address, "--tls-dir",
      try GeneratedCertificates.directory("client"))
    #expect(called.status == 0)
    #expect(await worker.terminate() == 0)
    #expect(worker.errors.contains("the keys of all connections are logged"))
    let keys = try String(contentsOfFile: "\(folder.path)/keys", encoding: .utf8)
    #expect(keys.contains("SERVER_TRAFFIC_SECRET_0 "))
    for line in keys.split(separator: "\n") {
      #expect(!worker.errors.contains(line.split(separator: " ")[2]))
    }
    let echo = try RunningCommand(
      Programs.grenache,
      [
        "echo", "--port", "0", "--insecure-key-log", "\(folder.path)/keys", "--tls-dir",
        try GeneratedCertificates.directory("worker"),
      ])
    _ = await echo.firstLine()
    #expect(await echo.terminate() == 0)
    #expect(echo.errors.contains("the keys of all connections are logged"))
  }

  @Test("providers: one that is missing is named, whether asked for by name or for FIPS")
  func providers() async throws {
    let server = try GeneratedCertificates.directory("server")
    for (option, text) in [
      (["--openssl-provider", "no-such-provider"], "provider no-such-provider"),
      (["--openssl-provider", "default"], ""), (["--fips"], "provider fips"),
    ] {
      let ended = try await run(
        Programs.grenache,
        ["announce", "rpc_test,1", "--grape", "127.0.0.1:1", "--tls-dir", server] + option)
      // Where there is a FIPS provider, what is missing is the grape.
      let isMissing = !text.isEmpty && !(option == ["--fips"] && ended.status == 69)
      #expect(ended.errors.contains(isMissing ? text : "127.0.0.1:1"), "\(ended.errors)")
      #expect(ended.status == (isMissing ? 78 : 69), "\(ended.errors)")
    }
  }
}
