import ArgumentParser
import Foundation
import Grenache
import GrenacheTLS
import GrenacheTransport
import Synchronization

/// Grapes, workers and publishers as processes with certificates of one authority.
final class Fleet: Sendable {
  let authority: CertificateAuthority
  let clientTLS: TLSConfiguration
  private let folder: String
  private let members = Mutex<[Member.Role: [MemberProcess]]>([:])
  private let line: @Sendable (String) -> Void

  /// - Parameter line: is given what publishers say.
  init(line: @escaping @Sendable (String) -> Void = { _ in }) throws {
    self.line = line
    folder = FileManager.default.temporaryDirectory.appending(path: UUID().uuidString).path
    authority = try CertificateAuthority()
    for (role, leaf) in Self.leaves {
      try authority.write(leaf, toDirectory: "\(folder)/\(role.rawValue)")
    }
    clientTLS = try authority.configuration(
      for: .init(commonName: "client", dnsNames: ["client"]))
  }

  // Private keys do not outlive whoever made them, however that ends.
  deinit { try? FileManager.default.removeItem(atPath: folder) }

  private static var leaves: [(Member.Role, CertificateAuthority.Leaf)] {
    [
      (.grape, .init(commonName: "grape", dnsNames: ["localhost"], ipAddresses: ["127.0.0.1"])),
      (.worker, .init(commonName: "worker", services: [Member.service, "bytes"])),
      (.publisher, .init(commonName: "publisher", services: [Member.key])),
    ]
  }

  func member(_ role: Member.Role, _ index: Int) -> MemberProcess? {
    members.withLock { $0[role]?[index] }
  }

  func count(_ role: Member.Role) -> Int { members.withLock { $0[role]?.count ?? 0 } }

  var grapes: [Endpoint] { members.withLock { $0[.grape]?.map(\.endpoint) ?? [] } }

  /// Starts one more.
  @discardableResult
  func add(_ role: Member.Role, _ arguments: String...) async throws -> MemberProcess {
    try await add(role, arguments)
  }

  @discardableResult
  func add(_ role: Member.Role, _ arguments: [String]) async throws -> MemberProcess {
    let started = try await start(role, arguments)
    members.withLock { $0[role, default: []].append(started) }
    return started
  }

  /// Starts a member in place of one that has ended, as that one was but for its ports.
  func replace(_ role: Member.Role, _ index: Int, samePort: Bool) async throws {
    guard let old = member(role, index) else { return }
    let ports = samePort ? ["--port", "\(old.port)", "--dht-port", "\(old.dhtPort)"] : []
    let started = try await start(role, old.arguments, ports)
    members.withLock { $0[role]?[index] = started }
  }

  private func start(
    _ role: Member.Role, _ arguments: [String], _ ports: [String] = []
  ) async throws -> MemberProcess {
    let known = members.withLock { members in
      members[.grape, default: []].map { role == .grape ? $0.dhtEndpoint : $0.endpoint }
    }
    let grapes = known.map(\.description).joined(separator: ",")
    return try await MemberProcess(
      role, arguments,
      environment: ["--certificates", "\(folder)/\(role.rawValue)", "--grapes", grapes] + ports,
      line: line)
  }

  /// Asks members to end, one after the other.
  ///
  /// - Returns: what was wrong with that.
  func endInOrder(_ roles: [Member.Role]) async -> [String] {
    var faults: [String] = []
    for role in roles {
      for member in members.withLock({ $0[role] ?? [] }) {
        if let fault = await member.terminate().fault { faults.append("a \(role) \(fault)") }
      }
    }
    return faults
  }

  /// Ends everybody who is left.
  func end() async {
    let all = members.withLock { members in
      defer { members = [:] }
      return members.values.flatMap(\.self)
    }
    for member in all { await member.kill() }
  }

  /// A client's link to all grapes.
  func link() async throws -> Link {
    try await Link(LinkConfiguration(grapes: grapes, tls: clientTLS), logger: quiet)
  }
}

extension MemberProcess {
  var dhtEndpoint: Endpoint { Endpoint(host: "127.0.0.1", port: dhtPort) }
}
