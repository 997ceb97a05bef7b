import ArgumentParser
import Foundation
import GrenacheCommandSupport
import GrenacheIO
import GrenacheTLS
import GrenacheTransport

/// `grenache tls`
struct TLSCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "tls", abstract: "Look into certificates and connections.",
    subcommands: [Probe.self, Inspect.self])
}

/// `grenache tls probe`
struct Probe: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Shake hands with a server and say what it is.",
    discussion: "Exit code 77 when a connection like this one fails, and why.")

  @Argument(help: "The server, host:port.")
  var server: String
  @Option(
    help:
      "Expect a worker of this service, as a call does that a lookup leads there, in place of the host."
  )
  var service: String?
  @Option(name: .shortAndLong, help: "Seconds for the whole of it.")
  var timeout: Double = 10
  @Flag(help: "Print a JSON object.")
  var json = false
  @OptionGroup var proof: WorkerProofOptions
  @OptionGroup var tls: TLSOptions

  func run() async throws {
    try await runCommand {
      guard let endpoint = Endpoint(server) else {
        throw CommandFailure(.usage, "\(server) is not host:port.")
      }
      let timeout = try duration(timeout)
      guard let configuration = try tls.configuration() else {
        throw CommandFailure(.usage, "there is no TLS to probe with --insecure-plaintext.")
      }
      if let file = configuration.insecureKeyLogFile {
        printError("warning: the keys of this connection are logged to \(file)")
      }
      let verification = try verification(at: endpoint)
      let context = try TLSContext(configuration)
      let loop = try EventLoopGroup.shared().next()
      let report = await TLSProbe.run(
        Destination(endpoint, verification: verification), context: context,
        by: .now() + timeout, on: loop)
      printLine(json ? JSONLine.object(Self.object(report)) : Self.text(report))
      guard let failure = report.failure else { return }
      if !json { printError("would fail: \(failure)") }
      throw ExitCode(
        (failure.tls == nil ? CommandExit.unavailable : .notPermitted).rawValue)
    }
  }

  /// Whom a connection to the server believes.
  private func verification(at endpoint: Endpoint) throws -> PeerVerification {
    let acceptsAddress = proof.insecureAcceptWorkersByAddress
    guard let service else {
      guard !acceptsAddress else {
        throw CommandFailure(
          .usage, "--insecure-accept-workers-by-address belongs to --service.")
      }
      return .name(endpoint.host)
    }
    guard acceptsAddress else { return .service(service) }
    printError("warning: a worker of \(service) is believed by its address alone")
    return .service(service, orAddress: endpoint.host)
  }

  private static func text(_ report: TLSProbe.Report) -> String {
    var lines: [String] = []
    if let negotiated = report.negotiated {
      lines.append("version  \(negotiated.version)")
      lines.append("cipher   \(negotiated.cipherSuite)")
      lines.append("group    \(negotiated.group)")
    }
    if let peer = report.presented {
      lines.append("subject  \(peer.subject)")
      lines.append("issuer   \(peer.issuer)")
      lines += peer.names.map { "name     \($0)" }
      lines.append("expires  \(DateText.of(peer.notAfter))")
      lines.append("spki     \(Digest.hex(peer.publicKeySHA256))")
      lines += peer.certificates.enumerated().map { place, one in
        "chain    \(place): \(one.subject), by \(one.issuer), until \(DateText.of(one.notAfter))"
      }
    }
    if let resumes = report.resumes { lines.append("resumes  \(resumes ? "yes" : "no")") }
    return lines.isEmpty ? "no handshake" : lines.joined(separator: "\n")
  }

  private static func object(_ report: TLSProbe.Report) -> [String: Any] {
    var object: [String: Any] = ["ok": report.failure == nil]
    if let negotiated = report.negotiated {
      object["version"] = negotiated.version
      object["cipher"] = negotiated.cipherSuite
      object["group"] = negotiated.group
    }
    if let peer = report.presented {
      object["subject"] = peer.subject
      object["issuer"] = peer.issuer
      object["names"] = peer.names.map(\.description)
      object["notAfter"] = peer.notAfter
      object["spki"] = Digest.hex(peer.publicKeySHA256)
      object["chain"] = peer.certificates.map { one in
        [
          "subject": one.subject, "issuer": one.issuer, "notAfter": one.notAfter,
          "sha256": Digest.hex(one.fingerprintSHA256),
        ] as [String: Any]
      }
    }
    if let resumes = report.resumes { object["resumes"] = resumes }
    if let failure = report.failure {
      object["failure"] = failure.description
      object["code"] = failure.tls?.code.description ?? failure.code.description
    }
    return object
  }
}

/// `grenache tls inspect`
struct Inspect: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Say what files of certificates, keys and revocation lists hold.",
    discussion: "PEM, DER or PKCS#12. Exit code 78 when one of them cannot be read.")

  @Argument(help: "The files.", completion: .file())
  var files: [String]
  @Option(
    help: "File with the passphrase of what is encrypted, in its first line.", completion: .file())
  var passphraseFile: String?

  func run() async throws {
    try await runCommand {
      let passphrase = try passphraseFile.map { try TLSPassphrase(firstLineOf: $0) }
      var failed = false
      for file in files {
        do {
          let content = try CertificateFile(file, passphrase: passphrase)
          printLine(Self.text(file, content))
        } catch let error as TLSConfigurationError {
          failed = true
          for fault in error.faults { printError("error: \(fault)") }
        }
      }
      if failed { throw ExitCode(CommandExit.configuration.rawValue) }
    }
  }

  private static func text(_ file: String, _ content: CertificateFile) -> String {
    var lines = ["\(file):"]
    for certificate in content.certificates {
      lines.append(
        "  certificate \(certificate.subject)\(certificate.isAuthority ? " (authority)" : "")")
      lines.append("    issuer   \(certificate.issuer)")
      lines += certificate.names.map { "    name     \($0)" }
      lines.append(
        "    valid    \(DateText.of(certificate.notBefore)) to \(DateText.of(certificate.notAfter))"
          + DateText.warning(certificate.notBefore, certificate.notAfter))
      lines.append("    key      \(certificate.key)")
      lines.append("    spki     \(Digest.hex(certificate.publicKeySHA256))")
      lines.append("    sha256   \(Digest.hex(certificate.fingerprintSHA256))")
    }
    if let key = content.key { lines.append("  key \(key)") }
    for list in content.revocationLists {
      lines.append("  revocation list of \(list.issuer): \(list.revokedCount) revoked")
      lines.append("    next     \(DateText.of(list.nextUpdate))")
    }
    return lines.joined(separator: "\n")
  }
}

/// Dates as people and machines both read them (RFC 3339).
private enum DateText {
  static func of(_ seconds: Int64) -> String {
    Date(timeIntervalSince1970: TimeInterval(seconds)).formatted(.iso8601)
  }

  static func warning(_ start: Int64, _ end: Int64) -> String {
    let now = Int64(Date().timeIntervalSince1970)
    if now > end { return "  EXPIRED" }
    if now < start { return "  NOT YET VALID" }
    let days = (end - now) / 86_400
    return days < 30 ? "  \(days) days left" : ""
  }
}
