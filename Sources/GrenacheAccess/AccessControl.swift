public import GrenacheTLS
package import GrenacheTransport
package import Logging
internal import Synchronization

/// A policy in use, which may be replaced while it is.
public final class AccessControl: Sendable {
  /// The file that the policy comes from, if it comes from one.
  public let file: String?

  private struct State {
    var policy: AccessPolicy
    var stamp: FileStamp?
    var guarded: [WeakContext] = []
    var nextObserver = 0
    var observers: [Int: @Sendable () -> Void] = [:]
  }

  private struct WeakContext {
    weak var context: TLSContext?
  }
  private let state: Mutex<State>
  private let changes = Atomic<Int>(0)

  /// Puts a policy to use.
  public init(_ policy: AccessPolicy = .byCertificate) {
    file = nil
    state = Mutex(State(policy: policy))
  }

  /// Puts the policy of a YAML file to use; whoever enforces it loads it again when it changes.
  ///
  /// - Throws: `AccessPolicyError` with every fault that was found.
  public init(file: String) throws(AccessPolicyError) {
    self.file = file
    let stamp = FileStamp(path: file)
    state = Mutex(State(policy: try AccessPolicy(file: file), stamp: stamp))
  }

  /// The policy; setting it counts from the next request on.
  public var policy: AccessPolicy {
    get { state.withLock { $0.policy } }
    set { replace(newValue, stamp: state.withLock { $0.stamp }) }
  }

  /// Loads the file again, if there is one.
  ///
  /// - Throws: `AccessPolicyError` with every fault; the policy stays as it was then.
  public func reload() throws(AccessPolicyError) {
    guard let file else { return }
    let stamp = FileStamp(path: file)
    replace(try AccessPolicy(file: file), stamp: stamp)
  }

  /// The state of the file as it was loaded.
  package var stamp: FileStamp? { state.withLock { $0.stamp } }

  private func replace(_ policy: AccessPolicy, stamp: FileStamp?) {
    let (guarded, observers) = state.withLock { state in
      state.policy = policy
      state.stamp = stamp
      state.guarded.removeAll { $0.context == nil }
      return (state.guarded.compactMap(\.context), Array(state.observers.values))
    }
    changes.wrappingAdd(1, ordering: .releasing)
    for context in guarded { context.recheckConnections() }
    for observer in observers { observer() }
  }

  /// Has the server of `context` close, whenever the policy changes, the connections of clients that
  /// may not do anything any more.
  ///
  /// - Parameter admits: whether a policy leaves a client something to do.
  package func guardConnections(
    of context: TLSContext, _ admits: @escaping @Sendable (AccessPolicy, PeerIdentity) -> Bool
  ) {
    context.admission = { peer in admits(self.policy, peer) }
    state.withLock { $0.guarded.append(WeakContext(context: context)) }
  }

  /// Calls `body`, on any thread, after each change of the policy, until `endObservation`.
  package func observe(_ body: @escaping @Sendable () -> Void) -> Int {
    state.withLock { state in
      state.nextObserver += 1
      state.observers[state.nextObserver] = body
      return state.nextObserver
    }
  }

  package func endObservation(_ number: Int) {
    state.withLock { $0.observers[number] = nil }
  }

  /// Goes up with each change of the policy: what was decided before is to be decided again.
  package var version: Int { changes.load(ordering: .acquiring) }

  /// What the policy says now.
  public func decide(
    _ right: AccessPolicy.Right, on key: String, by peer: PeerIdentity?
  ) -> AccessPolicy.Decision {
    policy.decide(right, on: key, by: peer)
  }
}

extension FileReloader {
  /// Keeps the policy of `access` fresh, whose file is looked at as often as certificates are; `nil`
  /// for one that comes from no file.
  package init?(_ access: AccessControl, role: String, logger: Logger) {
    guard access.file != nil else { return nil }
    self.init(
      "access policy", role: role, logger: logger, interval: .milliseconds(250),
      present: { [access.file.flatMap(FileStamp.init(path:))] }, loaded: { [access.stamp] },
      reload: { try access.reload() })
  }
}
