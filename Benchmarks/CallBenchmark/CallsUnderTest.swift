import Foundation
import Grenache
import GrenacheTLS

/// A server of calls in a process of its own, with certificates of an authority of its own.
final class CallsUnderTest {
  static let workerLeaf = CertificateAuthority.Leaf(commonName: "worker", services: ["bench"])

  let authority: CertificateAuthority
  /// Where the server's certificates are.
  let workerCertificates: String
  /// Where those of a client are.
  let clientCertificates: String
  let server: ServerProcess
  var worker: Endpoint { Endpoint(host: "127.0.0.1", port: server.port) }
  var tls: TLSConfiguration { .directory(clientCertificates) }
  private let folder: String

  init(answersPlaintext: Bool = false) throws {
    folder = FileManager.default.temporaryDirectory.appending(path: UUID().uuidString).path
    workerCertificates = "\(folder)/worker"
    clientCertificates = "\(folder)/client"
    authority = try CertificateAuthority()
    try authority.write(Self.workerLeaf, toDirectory: workerCertificates)
    try authority.write(
      .init(commonName: "client", dnsNames: ["client"]), toDirectory: clientCertificates)
    server = try .calls(
      certificates: workerCertificates, answersPlaintext: answersPlaintext)
  }

  /// Ends the server and removes the certificates.
  func end() {
    server.terminate()
    try? FileManager.default.removeItem(atPath: folder)
  }

  /// A client of its own connection.
  func client() async throws -> PeerRPCClient {
    let link = try await Link(LinkConfiguration(grapes: [worker], tls: tls), logger: quiet)
    return await PeerRPCClient(link: link)
  }
}
