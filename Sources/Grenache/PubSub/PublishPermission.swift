internal import GrenacheAccess
internal import GrenacheTLS

/// Who may publish under a key, if that is limited, and whether the one who was admitted still may.
struct PublishPermission {
  let key: String
  private let access: AccessControl?
  /// One for all connections, or none could resume a session.
  private let verification: PeerVerification?
  /// The version of the policy that the connection has been admitted by.
  private var version = 0

  init(_ access: AccessControl?, key: String) {
    self.key = key
    self.access = access
    verification = access.map { access in
      .custom("one who may publish \(key)") { peer in
        access.decide(.publish, on: key, by: peer).isAllowed
      }
    }
  }

  var isLimited: Bool { access != nil }

  /// Begins to admit somebody by the policy as it is.
  ///
  /// - Parameter verification: who may be there at all.
  /// - Returns: who may be there and may publish: whoever may not gets no byte.
  mutating func admit(_ verification: PeerVerification) -> PeerVerification {
    version = access?.version ?? 0
    return self.verification.map { .all([verification, $0]) } ?? verification
  }

  /// Whether the one who was admitted may still publish, after a change of the policy, too.
  mutating func stillAdmits(_ identity: PeerIdentity?) -> Bool {
    guard let access, access.version != version else { return true }
    version = access.version
    return access.decide(.publish, on: key, by: identity).isAllowed
  }
}
