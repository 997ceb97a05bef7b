import Foundation
import GrenacheTLS
import TestSupport
import Testing

@Suite("Folders of certificates: who makes, renews and replaces them", .timeLimit(.minutes(2)))
struct CertificateCommandTests {
  private let folder: TemporaryFolder

  init() throws { folder = try TemporaryFolder() }

  private func path(_ name: String) -> String { "\(folder.path)/\(name)" }

  private func exists(_ name: String) -> Bool {
    FileManager.default.fileExists(atPath: path(name))
  }

  private func content(_ name: String) throws -> String {
    try String(contentsOfFile: path(name), encoding: .utf8)
  }

  private func certs(_ arguments: String...) async throws -> Ended {
    try await run(Programs.grenache, ["certs"] + arguments)
  }

  /// Runs the script in this test's folder.
  private func script(_ target: String) async throws -> Ended {
    try await run(
      "/usr/bin/env", "-C", folder.path, "/bin/sh",
      "\(GeneratedCertificates.packageRoot)/certs/generate.sh", target)
  }

  @Test("certs/generate.sh: a relative folder is one of where it was started, also the second time")
  func relative() async throws {
    // Nobody has a folder of that name elsewhere.
    let name = "made-\(UUID().uuidString)"
    for _ in 0..<2 {
      let made = try await script(name)
      #expect(made.status == 0, "\(made.errors)")
      #expect(exists("\(name)/server/cert.pem") && exists("\(name)/complete"))
    }
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path) == [name])
  }

  @Test("certs/generate.sh: a folder that holds something else is left alone; an empty one is not")
  func foreign() async throws {
    let name = "papers-\(UUID().uuidString)"
    try FileManager.default.createDirectory(
      atPath: path("\(name)/kept"), withIntermediateDirectories: true)
    try "done".write(toFile: path("\(name)/complete"), atomically: true, encoding: .utf8)
    for target in [name, path(name), "\(name)/.", "."] {
      let refused = try await script(target)
      #expect(refused.status == 73, "\(target): \(refused.errors)")
      #expect(refused.errors.contains("holds something else"), "\(refused.errors)")
    }
    #expect(exists("\(name)/kept"))
    let empty = "empty-\(UUID().uuidString)"
    try FileManager.default.createDirectory(
      atPath: path(empty), withIntermediateDirectories: true)
    let made = try await script(empty)
    #expect(made.status == 0 && exists("\(empty)/complete"), "\(made.errors)")
  }

  @Test("certs make: an authority that is there is replaced only by --force, and its lists with it")
  func again() async throws {
    #expect(try await certs("--out", folder.path).status == 0)
    let revoked = try await certs(
      "revoke", path("client"), "--ca", path("ca"), "--into", path("worker"))
    #expect(revoked.status == 0 && exists("worker/crl.pem"), "\(revoked.errors)")
    let authority = try content("ca/ca.pem")
    let refused = try await certs("make", "--out", folder.path)
    #expect(refused.status == 73 && refused.errors.contains("--force"), "\(refused.errors)")
    #expect(try content("ca/ca.pem") == authority && exists("worker/crl.pem"))
    let forced = try await certs("make", "--out", folder.path, "--force")
    #expect(forced.status == 0, "\(forced.errors)")
    #expect(try content("ca/ca.pem") != authority)
    #expect(!exists("worker/crl.pem") && !exists("ca/crl.pem"))
  }

  @Test("certs make: what is there of any of its folders is replaced only by --force")
  func halfMade() async throws {
    for name in ["ca/ca.pem", "grape/key.pem", "worker/cert.pem"] {
      let folder = try TemporaryFolder()
      let file = URL(filePath: "\(folder.path)/\(name)")
      try FileManager.default.createDirectory(
        at: file.deletingLastPathComponent(), withIntermediateDirectories: true)
      try "mine".write(to: file, atomically: true, encoding: .utf8)
      let refused = try await certs("make", "--out", folder.path)
      #expect(refused.status == 73 && refused.errors.contains(name), "\(refused.errors)")
      #expect(refused.errors.contains("--force"), "\(refused.errors)")
      #expect(try String(contentsOf: file, encoding: .utf8) == "mine")
      #expect(try await certs("make", "--out", folder.path, "--force").status == 0)
      #expect(try String(contentsOf: file, encoding: .utf8) != "mine")
    }
  }

  @Test("certs issue: a key or a certificate that is there is replaced only by --force")
  func issueAgain() async throws {
    #expect(try await certs("--out", folder.path).status == 0)
    let files = ["cert.pem", "key.pem", "ca.pem"].map { "worker/\($0)" }
    func contents() throws -> [String] { try files.filter(exists).map(content) }
    func issuing(_ options: String...) async throws -> Ended {
      let issue = ["certs", "issue", path("worker"), "--ca", path("ca"), "--service", "a"]
      return try await run(Programs.grenache, issue + options)
    }
    for missing in [nil, "worker/cert.pem"] {
      if let missing { try FileManager.default.removeItem(atPath: path(missing)) }
      let before = try contents()
      let refused = try await issuing()
      #expect(refused.status == 73 && refused.output.isEmpty, "\(refused.errors)")
      for way in ["--force", "certs renew"] {
        #expect(refused.errors.contains(way), "\(refused.errors)")
      }
      #expect(try contents() == before)
    }
    let key = try content("worker/key.pem")
    #expect(try await issuing("--force").status == 0)
    #expect(try content("worker/key.pem") != key && exists("worker/cert.pem"))
    // Roots alone are nobody's identity.
    for name in files.prefix(2) { try FileManager.default.removeItem(atPath: path(name)) }
    #expect(try await issuing().status == 0)
  }

  @Test("dev: the lists of another authority go; that grapes run is said when they do")
  func development() async throws {
    let grape = try await RunningGrape(isPlain: true)
    #expect(try await certs("--out", folder.path).status == 0)
    #expect(try await certs("revoke", path("client"), "--ca", path("ca")).status == 0)
    // Its port is taken.
    let dev = try await run(
      Programs.grenache, "dev", "--out", folder.path, "--port", port(of: grape.api))
    #expect(dev.status == 70 && !dev.errors.contains("Two grapes run"), "\(dev.errors)")
    #expect(!exists("ca/crl.pem"))
    #expect(await grape.terminate() == 0)
  }

  @Test("a folder that cannot be made is 73, and why is said in words")
  func cannotCreate() async throws {
    #expect(try await certs("--out", folder.path).status == 0)
    for arguments in [
      ["certs", "--out", "/dev/null/x"],
      ["certs", "issue", "/dev/null/x", "--ca", path("ca")],
      ["certs", "revoke", path("client"), "--ca", path("ca"), "--into", "/dev/null"],
      ["dev", "--out", "/dev/null/x"], ["keygen", "-k", "/dev/null/x"],
    ] {
      let ended = try await run(Programs.grenache, arguments)
      #expect(ended.status == 73, "\(arguments): \(ended.errors)")
      #expect(ended.errors.contains("Not a directory"), "\(ended.errors)")
    }
  }

  private func span(_ name: String) throws -> Int64 {
    let certificate = try #require(try CertificateFile(path(name)).certificates.first)
    return certificate.notAfter - certificate.notBefore
  }

  @Test("certs renew: for as long as before, or for --days; a file without a certificate is 78")
  func renew() async throws {
    #expect(try await certs("--out", folder.path).status == 0)
    let ca = ["--ca", path("ca")]
    func renewing(_ arguments: [String]) async throws -> Ended {
      try await run(Programs.grenache, ["certs"] + arguments + ca)
    }
    #expect(try await renewing(["issue", path("a"), "--days", "365"]).status == 0)
    let before = try (span("a/cert.pem"), content("a/cert.pem"))
    let renewed = try await renewing(["renew", path("a")])
    #expect(renewed.status == 0, "\(renewed.errors)")
    #expect(try span("a/cert.pem") == before.0 && content("a/cert.pem") != before.1)
    let shortened = try await renewing(["renew", path("a"), "--days", "7"])
    #expect(shortened.status == 0, "\(shortened.errors)")
    #expect(try (7 * 86_400..<8 * 86_400).contains(span("a/cert.pem")))
    #expect(try await renewing(["renew", path("a"), "--days", "0"]).status == 64)
    try content("a/key.pem").write(
      toFile: path("a/cert.pem"), atomically: true, encoding: .utf8)
    let empty = try await renewing(["renew", path("a")])
    #expect(empty.status == 78 && empty.errors.contains("holds no certificate"), "\(empty.errors)")
    #expect(empty.output.isEmpty)
  }
}
