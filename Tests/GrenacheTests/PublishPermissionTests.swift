import GrenacheAccess
import GrenacheTLS
import TestSupport
import Testing

@testable import Grenache

@Suite("P26 The right to publish, while a connection lasts", .timeLimit(.minutes(1)))
struct PublishPermissionTests {
  private func policy(_ key: String) -> AccessPolicy {
    AccessPolicy([.init("news", allow: [.publish], on: .patterns([key]), to: [.anyone])])
  }

  @Test("without a policy everybody may, who may be there at all")
  func unlimited() {
    var permission = PublishPermission(nil, key: "news")
    #expect(!permission.isLimited)
    #expect(permission.admit(.anyPeerThatTheRootsVouchFor) == .anyPeerThatTheRootsVouchFor)
    #expect(permission.stillAdmits(nil) == true)
  }

  @Test("who was admitted is looked at again after a change of the policy, and only then")
  func changes() async throws {
    let authority = try TestAuthority()
    let server = try await ScriptedPublisher(tls: try authority.worker("news")) { _, _ in }
    _ = try await RawSubscriber(to: server.endpoint, tls: try authority.worker("news"))
    let identity = try #require(server.callers[0])
    await server.stop()
    let access = AccessControl(policy("others"))
    var permission = PublishPermission(access, key: "news")
    #expect(permission.isLimited)
    let admitted = permission.admit(.anyPeerThatTheRootsVouchFor)
    #expect(admitted != .anyPeerThatTheRootsVouchFor)
    // Another verification for each connection would resume no session.
    #expect(permission.admit(.anyPeerThatTheRootsVouchFor) == admitted)
    // The policy as it is was asked in the handshake.
    #expect(permission.stillAdmits(identity) == true)
    access.policy = policy("news")
    let (known, nobody) = (permission.stillAdmits(identity), permission.stillAdmits(nil))
    #expect(known && nobody)
    access.policy = policy("others")
    #expect(permission.stillAdmits(identity) == false)
    access.policy = policy("news")
    #expect(permission.stillAdmits(nil) == false)
  }
}
