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
      with its key in the folder ca. Where there is a CA already it ends with 73: certificates of a CA \
      that was replaced are nobody's any more.
      """)

  @Option(help: "The folder to write to.", completion: .directory)
  var out: String
  @Option(parsing: .singleValue, help: "A service of the worker; by default every service.")
  var service: [String] = ["*"]
  @Option(parsing: .singleValue, help: "A further host name or IP address of the grape.")
  var host: [String] = []
  @Flag(
    name: .shortAndLong,
    help: "Replace the CA that is there, and its revocation lists in the folders that are written.")
  var force = false

  func run() async throws {
    try await runCommand(mapping: { _ in .configuration }) {
      guard force || !DevelopmentCertificates.hasAuthority(in: out) else {
        throw CommandFailure(
          .cannotCreate,
          "\(out)/ca holds an authority already: certs issue and renew go on with it, --force replaces it."
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
    commandName: "issue", abstract: "Issue a certificate into a folder fit for --tls-dir.")

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

  func run() async throws {
    try await runCommand(mapping: { _ in .configuration }) {
      let lifetime = try lifetimeSeconds(days: days)
      let names = HostNames(host)
      var leaf = CertificateAuthority.Leaf(
        commonName: URL(filePath: folder).lastPathComponent, dnsNames: names.dnsNames,
        ipAddresses: names.ipAddresses, services: service)
      leaf.lifetimeSeconds = lifetime
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
      let lifetime = try days.map(lifetimeSeconds)
      let authority = try CertificateAuthority(directory: ca)
      for folder in folders {
        try authority.renew(inDirectory: folder, lifetimeSeconds: lifetime)
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

private func lifetimeSeconds(days: Int) throws -> Int {
  guard days > 0, days <= 3_650 else {
    throw CommandFailure(.usage, "--days: between 1 and 3650.")
  }
  return days * 86_400
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

  static func hasAuthority(in folder: String) -> Bool {
    FileManager.default.fileExists(atPath: "\(folder)/ca/ca-key.pem")
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
