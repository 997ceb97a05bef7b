internal import Synchronization

/// Certificates, keys, roots and revocation lists in use: loaded, checked, and replaced as a whole.
///
/// A new connection takes what is current; an open one goes on with what it began with, and is closed
/// when its peer would not be accepted any more.
package final class TLSContext: Sendable {
  private struct State {
    var configuration: TLSConfiguration
    var snapshot: TLSSnapshot
    var stamps: [FileStamp?]
    /// Goes up with each reload.
    var generation = 0
    var nextObserver = 0
    var observers: [Int: @Sendable (TLSSnapshot) -> Void] = [:]
    var admission: (@Sendable (PeerIdentity) -> Bool)?
  }
  private let state: Mutex<State>
  /// What session tickets are sealed with when no secret is shared; it outlives reloads.
  private let ownSecret = secureRandomBytes(32)
  let sessions = TLSSessionCache()
  /// Seconds since 1970.
  let clock: @Sendable () -> Int64

  /// Loads and checks `configuration`.
  ///
  /// - Throws: `TLSConfigurationError` with every fault that was found.
  package convenience init(_ configuration: TLSConfiguration) throws(TLSConfigurationError) {
    try self.init(configuration, isChecked: true)
  }

  /// - Parameter isChecked: see `TLSSnapshot`.
  init(
    _ configuration: TLSConfiguration, isChecked: Bool,
    clock: @escaping @Sendable () -> Int64 = wallClock
  ) throws(TLSConfigurationError) {
    self.clock = clock
    // A list may have come since the configuration was made: it counts from the start.
    let configuration = configuration.withPresentRevocationLists
    // The stamps come first: a file that changes while it is read is looked at again.
    let stamps = configuration.stamps
    let snapshot = try TLSSnapshot(configuration, ownSecret: ownSecret, isChecked: isChecked)
    state = Mutex(State(configuration: configuration, snapshot: snapshot, stamps: stamps))
  }

  /// What was loaded last.
  package var configuration: TLSConfiguration { state.withLock { $0.configuration } }

  /// The end of the validity, in seconds since 1970, of the certificate that expires first of this
  /// side's and those sent along with it.
  package var notAfter: Int64 { current.notAfter }

  /// SHA-256 of this side's certificate.
  package var fingerprintSHA256: [UInt8] { current.fingerprintSHA256 }

  /// Loads everything again, or another configuration, and replaces what is in use at once.
  ///
  /// Another configuration counts for new connections and for the certificates of open ones; whom it asks
  /// for more than a good certificate, open connections and sessions are not asked for it.
  ///
  /// - Throws: `TLSConfigurationError` with every fault that was found; what is in use stays then.
  package func reload(_ other: TLSConfiguration? = nil) throws(TLSConfigurationError) {
    while true {
      let (current, generation) = state.withLock { ($0.configuration, $0.generation) }
      let configuration = (other ?? current).withPresentRevocationLists
      let stamps = configuration.stamps
      let snapshot = try TLSSnapshot(configuration, ownSecret: ownSecret)
      var replaced: TLSSnapshot?
      let observers: [@Sendable (TLSSnapshot) -> Void]? = state.withLock { state in
        // What was loaded from an older configuration must not replace a newer one.
        guard other != nil || state.generation == generation else { return nil }
        state.configuration = configuration
        state.stamps = stamps
        replaced = state.snapshot
        state.snapshot = snapshot
        state.generation += 1
        return Array(state.observers.values)
      }
      guard let observers else { continue }
      replaced?.verified.close()
      if snapshot.sessions == nil { sessions.removeAll() }
      for observer in observers { observer(snapshot) }
      return
    }
  }

  /// Whether there is a status to staple that must not be sent any more.
  package var isStatusOutOfDate: Bool { current.statusNextUpdate.map { $0 <= clock() } ?? false }

  /// The state of the files as they were loaded.
  package var stamps: [FileStamp?] { state.withLock { $0.stamps } }

  package var current: TLSSnapshot { state.withLock { $0.snapshot } }

  /// Calls `body`, on any thread, after each reload, until `endObservation`.
  package func observe(_ body: @escaping @Sendable (TLSSnapshot) -> Void) -> Int {
    state.withLock { state in
      state.nextObserver += 1
      state.observers[state.nextObserver] = body
      return state.nextObserver
    }
  }

  package func endObservation(_ number: Int) {
    state.withLock { $0.observers[number] = nil }
  }

  /// Which clients may keep their connections, beside having a good certificate; asked on any thread
  /// whenever the connections are looked at again. `nil` for all.
  package var admission: (@Sendable (PeerIdentity) -> Bool)? {
    get { state.withLock { $0.admission } }
    set { state.withLock { $0.admission = newValue } }
  }

  /// Has the peers of open connections looked at again: what they were admitted by has changed.
  package func recheckConnections() {
    let (snapshot, observers) = state.withLock { ($0.snapshot, Array($0.observers.values)) }
    for observer in observers { observer(snapshot) }
  }
}
