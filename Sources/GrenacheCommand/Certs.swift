import ArgumentParser
import Foundation
import GrenacheCommandSupport
import GrenacheTLS

/// `grenache certs`
struct Certs: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Make, renew and revoke certificates of a development CA. Not for production.",
    subcommands: [CertsMake.self, CertsIssue.self, CertsRenew.self, CertsRevoke.self],
    defaultSubcommand: CertsMake.self)
}

/// `grenache certs make`
struct CertsMake: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "make", abstract: "Make a development CA and certificates from it.",
    discussion: """
      Writes one folder for each of grape, worker and client, each fit for --tls-dir, and the CA \
      with its key in the folder ca. Where one of them holds a certificate or a key already it ends with \
      73: certificates of a CA that was replaced are nobody's any more.
      """)

  @Option(help: "The folder to write to.", completion: .directory)
  var out: String
  @Option(parsing: .singleValue, help: "A service of the worker; by default every service.")
  var service: [String] = ["*"]
  @Option(parsing: .singleValue, help: "A further host name or IP address of the grape.")
  var host: [String] = []
  @Flag(
    name: .shortAndLong,
    help:
      "Replace what is there, CA and all, and its revocation lists in the folders that are written."
  )
  var force = false

  func run() async throws {
    try await runCommand(mapping: { _ in .configuration }) {
      if let file = DevelopmentCertificates.existing(in: out), !force {
        throw CommandFailure(
          .cannotCreate,
          "\(file) is there already: certs issue and renew go on with an authority, --force replaces all."
        )
      }
      try DevelopmentCertificates.write(to: out, services: service, hosts: host)
      for name in DevelopmentCertificates.names { printLine("\(out)/\(name)") }
    }
  }
}

/// `grenache certs issue`
struct CertsIssue: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "issue", abstract: "Issue a certificate into a folder fit for --tls-dir.",
    discussion: """
      Exit code 73 when the folder holds a certificate or a key already: certs renew replaces them under \
      the same names.
      """)

  @Argument(
    help: "The folder to write to; its name becomes the common name.", completion: .directory)
  var folder: String
  @Option(help: "The folder of the CA.", completion: .directory)
  var ca: String
  @Option(parsing: .singleValue, help: "A service that it may announce and answer for.")
  var service: [String] = []
  @Option(parsing: .singleValue, help: "A host name or IP address.")
  var host: [String] = []
  @Option(help: "Days until it expires.")
  var days = 90
  @Flag(
    name: .shortAndLong, help: "Replace the certificate, its key and the roots that are there.")
  var force = false

  func run() async throws {
    try await runCommand(mapping: { _ in .configuration }) {
      let lifetime = try certificateLifetime(days: days)
      if let file = DevelopmentCertificates.identity(in: folder), !force {
        throw CommandFailure(
          .cannotCreate,
          "\(file) is there already: certs renew issues it anew, --force replaces it.")
      }
      let names = HostNames(host)
      var leaf = CertificateAuthority.Leaf(
        commonName: URL(filePath: folder).lastPathComponent, dnsNames: names.dnsNames,
        ipAddresses: names.ipAddresses, services: service)
      leaf.lifetime = lifetime
      try CertificateAuthority(directory: ca).write(leaf, toDirectory: folder)
      printLine(folder)
    }
  }
}

/// `grenache certs renew`
struct CertsRenew: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "renew",
    abstract: "Issue the certificates of folders anew: the same names, a new key.",
    discussion: "What runs with such a folder loads the new certificate by itself.")

  @Argument(help: "The folders.", completion: .directory)
  var folders: [String]
  @Option(help: "The folder of the CA.", completion: .directory)
  var ca: String
  @Option(help: "Days until they expire; by default as many as the old ones were good for.")
  var days: Int?

  func run() async throws {
    try await runCommand(mapping: { _ in .configuration }) {
      let lifetime = try days.map(certificateLifetime)
      let authority = try CertificateAuthority(directory: ca)
      for folder in folders {
        try authority.renew(inDirectory: folder, lifetime: lifetime)
        printLine(folder)
      }
    }
  }
}

/// `grenache certs revoke`
struct CertsRevoke: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "revoke", abstract: "Revoke the certificate of a folder.",
    discussion: """
      Writes the CA's revocation list, crl.pem, into the folder of the CA and those that --into names. \
      What runs with such a folder loads the list by itself and closes the connections of the revoked.
      """)

  @Argument(help: "The folder whose certificate is revoked.", completion: .directory)
  var folder: String
  @Option(help: "The folder of the CA.", completion: .directory)
  var ca: String
  @Option(
    parsing: .singleValue, help: "A folder whose user is to enforce the list.",
    completion: .directory)
  var into: [String] = []

  func run() async throws {
    try await runCommand(mapping: { _ in .configuration }) {
      let authority = try CertificateAuthority(directory: ca)
      let list = try authority.revoke("\(folder)/cert.pem", list: "\(ca)/crl.pem")
      for target in [ca] + into {
        try FileWriter.write(list, to: "\(target)/crl.pem", mode: 0o644)
        printLine("\(target)/crl.pem")
      }
    }
  }
}

private func certificateLifetime(days: Int) throws -> Duration {
  guard days > 0, days <= 3_650 else {
    throw CommandFailure(.usage, "--days: between 1 and 3650.")
  }
  return .seconds(days * 86_400)
}

/// Host names and IP addresses, told apart.
struct HostNames {
  var dnsNames: [String] = []
  var ipAddresses: [String] = []

  init(_ hosts: [String]) {
    for host in hosts {
      let isAddress = host.contains(":") || host.allSatisfy { $0.isNumber || $0 == "." }
      if isAddress { ipAddresses.append(host) } else { dnsNames.append(host) }
    }
  }
}

/// The certificates of a development network.
enum DevelopmentCertificates {
  static let names = ["grape", "worker", "client"]

  /// The key or the certificate of a folder that `--tls-dir` may name, if it has any.
  static func identity(in folder: String) -> String? {
    firstFile(of: ["\(folder)/key.pem", "\(folder)/cert.pem"])
  }

  /// The same of all folders below one, the authority's included.
  static func existing(in folder: String) -> String? {
    firstFile(of: ["\(folder)/ca/ca-key.pem", "\(folder)/ca/ca.pem"])
      ?? names.lazy.compactMap { identity(in: "\(folder)/\($0)") }.first
  }

  private static func firstFile(of files: [String]) -> String? {
    files.first { FileManager.default.fileExists(atPath: $0) }
  }

  /// Makes a new authority and certificates of it. The lists of the one before go with it: with them all of
  /// the new ones would be refused.
  static func write(to folder: String, services: [String], hosts: [String] = []) throws {
    let authority = try CertificateAuthority()
    let names = HostNames(["localhost", "127.0.0.1", "::1"] + hosts)
    let leaves = [
      CertificateAuthority.Leaf(
        commonName: "grape", dnsNames: names.dnsNames, ipAddresses: names.ipAddresses),
      CertificateAuthority.Leaf(commonName: "worker", services: services),
      CertificateAuthority.Leaf(commonName: "client", dnsNames: ["client.localhost"]),
    ]
    for (name, leaf) in zip(Self.names, leaves) {
      try authority.write(leaf, toDirectory: "\(folder)/\(name)")
    }
    try authority.write(toDirectory: "\(folder)/ca")
    for name in Self.names + ["ca"] { try FileWriter.remove("\(folder)/\(name)/crl.pem") }
  }
}
