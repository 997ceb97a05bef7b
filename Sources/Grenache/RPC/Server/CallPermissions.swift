internal import GrenacheAccess
internal import GrenacheTLS

/// What the peer of one connection may call, decided once for each service and version of the policy.
struct CallPermissions {
  private let access: AccessControl
  private let admitsAnonymous: Bool
  private var version: Int
  private var isOpen: Bool
  private var decided: [String: Bool] = [:]
  /// Whether the last denial was the first of its service: one worth a line in the log.
  private(set) var isNewDenial = false

  /// - Parameter admitsAnonymous: whether who is nobody may call, too, where every key is open to anyone:
  ///   a rule for some keys is about whom the roots vouch for.
  init(_ access: AccessControl, admitsAnonymous: Bool) {
    self.access = access
    self.admitsAnonymous = admitsAnonymous
    version = access.version
    isOpen = access.policy.isOpen(.call)
  }

  /// Whether `peer`, the same one at each call, may call `service`, one of the server's own.
  mutating func allow(_ service: String, by peer: PeerIdentity?) -> Bool {
    if version != access.version {
      version = access.version
      isOpen = access.policy.isOpen(.call)
      decided = [:]
    }
    if isOpen, peer != nil || admitsAnonymous { return true }
    isNewDenial = false
    if let known = decided[service] { return known }
    let isAllowed = access.decide(.call, on: service, by: peer).isAllowed
    decided[service] = isAllowed
    isNewDenial = !isAllowed
    return isAllowed
  }
}
