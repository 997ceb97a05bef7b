import ArgumentParser
import GrenacheCommandSupport
import GrenacheTLS

/// `grenache certs`
struct Certs: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Make a development CA and certificates from it.",
    discussion: """
      Writes one folder for each of grape, worker and client, each fit for --tls-dir. The key of the CA is \
      not kept: for more certificates make all of them anew. Not for production.
      """)

  @Option(help: "The folder to write to.")
  var out: String
  @Option(parsing: .singleValue, help: "A service of the worker; by default every service.")
  var service: [String] = ["*"]
  @Option(parsing: .singleValue, help: "A further host name or IP address of the grape.")
  var host: [String] = []

  func run() async throws {
    try await runCommand(mapping: { _ in .configuration }) {
      try DevelopmentCertificates.write(to: out, services: service, hosts: host)
      for name in DevelopmentCertificates.names { printLine("\(out)/\(name)") }
    }
  }
}

/// The certificates of a development network.
enum DevelopmentCertificates {
  static let names = ["grape", "worker", "client"]

  static func write(to folder: String, services: [String], hosts: [String] = []) throws {
    let authority = try CertificateAuthority()
    var dnsNames = ["localhost"]
    var addresses = ["127.0.0.1", "::1"]
    for host in hosts {
      let isAddress = host.contains(":") || host.allSatisfy { $0.isNumber || $0 == "." }
      if isAddress { addresses.append(host) } else { dnsNames.append(host) }
    }
    let leaves = [
      CertificateAuthority.Leaf(commonName: "grape", dnsNames: dnsNames, ipAddresses: addresses),
      CertificateAuthority.Leaf(commonName: "worker", services: services),
      CertificateAuthority.Leaf(commonName: "client", dnsNames: ["client.localhost"]),
    ]
    for (name, leaf) in zip(names, leaves) {
      try authority.write(leaf, toDirectory: "\(folder)/\(name)")
    }
  }
}
