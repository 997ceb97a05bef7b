import Foundation
import TestSupport
import Testing

@testable import GrenacheTLS

@Suite("TLS configuration: every fault at once, before anything listens")
struct TLSConfigurationTests {
  private func faults(_ configuration: TLSConfiguration) -> [TLSConfigurationError.Fault] {
    do {
      _ = try TLSContext(configuration)
      return []
    } catch {
      return error.faults
    }
  }

  @Test("three missing files are three faults")
  func missing() {
    let faults = faults(.directory("/nowhere"))
    #expect(faults.map(\.source) == ["/nowhere/cert.pem", "/nowhere/key.pem", "/nowhere/ca.pem"])
    #expect(faults.allSatisfy { $0.reason == "does not exist" && !$0.remedy.isEmpty })
  }

  @Test(
    "what is wrong with a leaf",
    arguments: [
      ("expired", "expired"), ("not-yet-valid", "is not valid for another"),
      ("weak-rsa", "too weak"),
    ])
  func leaf(_ name: String, _ reason: String) throws {
    let faults = faults(try GeneratedCertificates.configuration(name))
    #expect(faults.count == 1)
    #expect(faults.first?.reason.contains(reason) == true, "\(faults)")
    #expect(faults.first?.source.hasSuffix("cert.pem") == true)
  }

  @Test("a key of another certificate, an encrypted key, and what is no key")
  func keys() throws {
    var configuration = try GeneratedCertificates.configuration("server")
    configuration.key = .file(try GeneratedCertificates.directory("client") + "/key.pem")
    #expect(faults(configuration).first?.reason.contains("not the key of the certificate") == true)
    configuration.key = .pem("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END\n")
    #expect(
      faults(configuration).first?.reason == "line 3 does not end the block of line 1")
    configuration.key = .pem(
      "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n")
    #expect(faults(configuration).first?.reason == "holds an encrypted key")
    configuration.key = .pem("hello")
    #expect(faults(configuration).first?.reason.contains("holds no key") == true)
    #expect(faults(configuration).first?.source == "PEM in memory")
  }

  @Test("a chain in the wrong order, and one that is cut off")
  func chain() throws {
    let folder = try GeneratedCertificates.directory("intermediate")
    var configuration = TLSConfiguration.directory(folder)
    let text = try String(contentsOfFile: folder + "/cert.pem", encoding: .utf8)
    let other = try String(
      contentsOfFile: GeneratedCertificates.directory("client") + "/cert.pem", encoding: .utf8)
    let end = "-----END CERTIFICATE-----\n"
    let leaf = text.components(separatedBy: end)[0] + end
    configuration.certificate = .pem(leaf + other)
    #expect(faults(configuration).first?.reason == "certificate 2 did not issue certificate 1")
    configuration.certificate = .pem(String(text.dropLast(100)))
    let line = leaf.split(separator: "\n").count + 1
    let reason = try #require(faults(configuration).first?.reason)
    #expect(reason == "line \(line) begins a block that does not end")
    configuration.certificate = .pem("")
    #expect(faults(configuration).first?.reason.contains("holds no certificate") == true)
  }

  @Test(
    "P21 a chain that peers would refuse is not loaded, and what was in use stays",
    arguments: [
      ("expired-intermediate", "certificate 2 expired"),
      ("other-intermediate", "and another key than it was signed with"),
    ])
  func brokenChain(_ name: String, _ reason: String) throws {
    let context = try TLSContext(GeneratedCertificates.configuration("intermediate"))
    let before = context.fingerprintSHA256
    let error = #expect(throws: TLSConfigurationError.self) {
      try context.reload(GeneratedCertificates.configuration(name))
    }
    #expect(error?.faults.count == 1)
    #expect(error?.faults.first?.source.hasSuffix("\(name)/cert.pem") == true)
    #expect(error?.faults.first?.reason.contains(reason) == true, "\(error as Any)")
    #expect(context.fingerprintSHA256 == before)
  }

  @Test("roots that have expired are named; only of nothing but such roots a set is refused")
  func expiredRoots() throws {
    let current = try TestAuthority()
    let old = try CertificateAuthority(commonName: "old root", lifetime: .seconds(-60))
    var configuration = try current.host()
    configuration.roots = .pem(current.authority.certificatePEM + old.certificatePEM)
    #expect(try TLSContext(configuration).current.expiredRoots == ["CN=old root"])
    configuration.roots = .pem(old.certificatePEM)
    #expect(faults(configuration).map(\.reason) == ["holds no authority that has not expired"])
    configuration.roots = .pem(current.authority.certificatePEM)
    #expect(try TLSContext(configuration).current.expiredRoots.isEmpty)
  }

  @Test("what expires first of a chain is what is reported")
  func notAfter() throws {
    let folder = try GeneratedCertificates.directory("intermediate")
    let chain = try CertificateFile("\(folder)/cert.pem").certificates
    #expect(chain.count == 2)
    #expect(try TLSContext(.directory(folder)).notAfter == chain.map(\.notAfter).min())
  }

  @Test("a revocation list that is none")
  func crl() throws {
    var configuration = try GeneratedCertificates.configuration("server")
    configuration.revocationLists = .pem("nothing")
    #expect(faults(configuration).first?.reason.contains("holds no revocation list") == true)
  }

  @Test("from the environment")
  func environment() throws {
    #expect(try TLSConfiguration.environment([:]) == nil)
    #expect(
      try TLSConfiguration.environment(["GRENACHE_TLS_DIR": "/d"])
        == .directory("/d"))
    let error = #expect(throws: TLSConfigurationError.self) {
      try TLSConfiguration.environment(["GRENACHE_TLS_CERT": "c"])
    }
    #expect(error?.faults.map(\.source) == ["GRENACHE_TLS_KEY", "GRENACHE_TLS_CA"])
  }

  @Test("mutated PEM gives faults and never ends the process")
  func mutations() throws {
    var generator = SeededGenerator(seed: 5)
    let configuration = try GeneratedCertificates.configuration("server")
    let folder = try GeneratedCertificates.directory("server")
    for name in ["cert", "key", "ca"] {
      let bytes = Array(try Data(contentsOf: URL(filePath: "\(folder)/\(name).pem")))
      for _ in 0..<150 {
        var mutated = bytes
        for _ in 0..<Int.random(in: 1...5, using: &generator) {
          let index = Int.random(in: 0..<mutated.count, using: &generator)
          mutated[index] = UInt8.random(in: 0...255, using: &generator)
        }
        var changed = configuration
        let source = TLSConfiguration.Source.pem(String(decoding: mutated, as: UTF8.self))
        switch name {
        case "cert": changed.certificate = source
        case "key": changed.key = source
        default: changed.roots = source
        }
        _ = faults(changed)
      }
    }
  }

  @Test("the catalogue of errors has every code, in order, and no other")
  func catalogue() throws {
    let path = GeneratedCertificates.packageRoot + "/docs/tls-errors.md"
    let lines = try String(contentsOfFile: path, encoding: .utf8).split(separator: "\n")
    let rows = lines.compactMap { line -> String? in
      line.hasPrefix("| `") ? String(line.dropFirst(3).prefix { $0 != "`" }) : nil
    }
    #expect(rows == TLSError.Code.all.map(\.description))
  }

  @Test("P42 no key in any description")
  func secrets() throws {
    let authority = try TestAuthority()
    let configuration = try authority.client()
    guard case .pem(let key) = configuration.key else { return }
    let secret = key.split(separator: "\n")[1]
    #expect(!"\(configuration.key)".contains(secret))
    var broken = configuration
    broken.certificate = .pem(try authority.host().certificate.text)
    #expect(!"\(faults(broken))".contains(secret))
  }
}

extension TLSConfiguration.Source {
  fileprivate var text: String {
    if case .pem(let text) = self { text } else { "" }
  }
}
