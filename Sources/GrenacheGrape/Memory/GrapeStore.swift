internal import Foundation
internal import GrenacheDHT
internal import GrenacheIO
internal import Logging

/// A grape's memory on disk: one SQLite file in its state folder, written behind.
///
/// The file is in write-ahead mode: whatever was committed is there after a crash of the process, and
/// after a crash of the machine the file is whole, if perhaps some seconds old. A file that is no
/// database, a damaged one or one with other tables, is set aside under another name, whenever that is
/// noticed, and all is written anew.
actor GrapeStore {
  /// Where what is written comes from, and where it goes when it could not be.
  struct Source: Sendable {
    /// - Parameter isLast: nothing is left for later.
    let take: @Sendable (_ isLast: Bool) async -> GrapeMemory
    let giveBack: @Sendable (GrapeMemory) async -> Void
  }

  /// How often what is new is written down.
  static let interval = Duration.milliseconds(100)
  /// The longest pause after it could not be written.
  static let pauseMax = Duration.seconds(30)
  /// How often announcements are written down for when they expire alone.
  static let renewalInterval = Duration.seconds(10)
  /// What the write-ahead log keeps of the disk after a burst: as many pages as SQLite writes back at
  /// once.
  static let journalBytesMax = 4 << 20
  /// How often, and how long after their time, announcements are dropped that have expired, in seconds:
  /// that they were renewed may not have been written down yet.
  private static let sweepSeconds: Int64 = 20

  private let folder: StateFolder
  private let file: String
  private let logger: Logger
  /// `nil` while there is no file that could be used.
  private var connection: SQLiteConnection?
  /// What was written down last; `nil` before the first time.
  private var lastContacts: Set<DHTContact>?
  private var lastIDs: DHTNodeIDs?
  private var sweptAt: Int64 = 0
  /// Attempts to write that have failed, one after the other.
  private var failures = 0

  /// Opens the file in `folder`, which is made if need be.
  ///
  /// - Throws: `StateFolder.InUse`, or `GrapeError` when the folder cannot be used at all.
  init(folder path: String, logger: Logger) throws {
    folder = try StateFolder(path)
    file = "\(path)/grape.sqlite"
    self.logger = logger
    do {
      connection = try Self.open(file, in: folder)
    } catch let error as SQLiteError where error.isDamage {
      connection = try Self.makeAnew(file, in: folder, because: error, logger)
    } catch let error as SQLiteError {
      throw GrapeError(.stateUnusable, "the state \(file) cannot be opened: \(error)")
    }
  }

  private static func open(_ file: String, in folder: StateFolder) throws -> SQLiteConnection {
    // The log and the shared memory get the mode of the file when they are made.
    try folder.makePrivate(file)
    for suffix in ["-wal", "-shm"] where FileManager.default.fileExists(atPath: file + suffix) {
      try folder.makePrivate(file + suffix)
    }
    let connection = try SQLiteConnection(path: file)
    try connection.execute(
      """
      PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA busy_timeout=2000;
      PRAGMA journal_size_limit=\(journalBytesMax);
      """)
    let check = try connection.rows("PRAGMA quick_check(1)")
    guard case .blob(let text)? = check.first?.first, text == Array("ok".utf8) else {
      throw SQLiteError(call: "quick_check", code: 11, reason: "the file is damaged")
    }
    try GrapeSchema.upgrade(connection, file)
    return connection
  }

  /// Moves the file and what belongs to it out of the way, and opens a new one.
  private static func makeAnew(
    _ file: String, in folder: StateFolder, because error: any Error, _ logger: Logger
  ) throws(GrapeError) -> SQLiteConnection {
    var aside = "\(file).damaged-\(WallClock.now().seconds)"
    if FileManager.default.fileExists(atPath: aside) {
      aside += "-\(UInt32.random(in: 0...(.max)))"
    }
    for suffix in ["", "-wal", "-shm"] {
      try? FileManager.default.moveItem(atPath: file + suffix, toPath: aside + suffix)
    }
    logger.error(
      "the state is damaged; it was set aside, and the grape begins anew",
      metadata: ["file": "\(file)", "setAside": "\(aside)", "error": "\(error)"])
    do {
      return try open(file, in: folder)
    } catch {
      throw GrapeError(.stateUnusable, "the state \(file) cannot be made anew: \(error)")
    }
  }

  private func beginAnew(because error: any Error) throws(GrapeError) {
    // Closed before that: SQLite removes the log by its name, which would be that of the new file.
    connection = nil
    connection = try Self.makeAnew(file, in: folder, because: error, logger)
  }

  private func open() throws -> SQLiteConnection {
    if let connection { return connection }
    let opened = try Self.open(file, in: folder)
    connection = opened
    return opened
  }

  // MARK: Reading

  /// What was written down; what has expired since is left out. `nil` for a new file, and for one that
  /// cannot be read and was set aside.
  ///
  /// - Throws: `GrapeError`.
  func load() throws(GrapeError) -> GrapeMemory? {
    do {
      return try read()
    } catch let error as SQLiteError where error.isDamage {
      try beginAnew(because: error)
      return nil
    } catch {
      throw GrapeError(.stateUnusable, "the state \(file) cannot be read: \(error)")
    }
  }

  private func read() throws -> GrapeMemory? {
    let connection = try open()
    let now = WallClock.now().seconds
    var ids: [Int64: NodeID] = [:]
    for row in try connection.rows("SELECT family, id FROM ids") {
      guard case .integer(let family) = row[0], case .blob(let bytes) = row[1] else { continue }
      ids[family] = NodeID(bytes)
    }
    guard let ipv4 = ids[4], let ipv6 = ids[6] else { return nil }
    var memory = GrapeMemory(
      ids: DHTNodeIDs(ipv4: ipv4, ipv6: ipv6), contacts: [], peers: [], items: [])
    for row in try connection.rows("SELECT id, address FROM contacts ORDER BY rowid") {
      guard case .blob(let bytes) = row[0], case .blob(let compact) = row[1],
        let id = NodeID(bytes), let address = DHTAddress(compact: compact)
      else { continue }
      memory.contacts.append(DHTContact(id: id, address: address))
    }
    let peers = try connection.rows("SELECT key, address, expiry, own, caller FROM peers")
    memory.peers = peers.compactMap { Self.peer($0, now: now) }
    let items = try connection.rows(
      """
      SELECT target, value, publicKey, salt, sequence, signature, expiry, own, owner, caller
      FROM items
      """)
    memory.items = items.compactMap { Self.item($0, now: now) }
    // Later what expires in memory goes by name: the wall clock may jump. At worst they stay till then.
    try? connection.run("DELETE FROM items WHERE expiry <= ?", [[.integer(now)]])
    return memory
  }

  private static func peer(_ row: [SQLiteValue], now: Int64) -> DHTNode.KeptPeer? {
    guard case .blob(let key) = row[0], case .blob(let compact) = row[1],
      case .integer(let expiry) = row[2], case .integer(let own) = row[3],
      case .blob(let caller) = row[4], expiry > now, let peer = DHTAddress(compact: compact)
    else { return nil }
    return DHTNode.KeptPeer(
      key: key, peer: peer, remaining: remaining(until: expiry, now), isOwn: own == 1,
      caller: self.caller(caller))
  }

  private static func item(_ row: [SQLiteValue], now: Int64) -> DHTNode.KeptItem? {
    guard case .blob(let target) = row[0], case .blob(let value) = row[1],
      case .blob(let publicKey) = row[2], case .blob(let salt) = row[3],
      case .integer(let sequence) = row[4], case .blob(let signature) = row[5],
      case .integer(let expiry) = row[6], case .integer(let own) = row[7],
      case .blob(let owner) = row[8], case .blob(let caller) = row[9], expiry > now
    else { return nil }
    var item = DHTItem(value: value)
    if !publicKey.isEmpty {
      item.signature = DHTItem.Signature(
        publicKey: publicKey, salt: salt, sequence: sequence, signature: signature)
    }
    return DHTNode.KeptItem(
      target: target, item: item, remaining: remaining(until: expiry, now), isOwn: own == 1,
      owner: DHTAddress(compact: owner)?.host, caller: self.caller(caller))
  }

  /// Who is not counted has no bytes.
  private static func caller(_ bytes: [UInt8]) -> DHTCaller? {
    bytes.isEmpty ? nil : DHTCaller(bytes)
  }

  private static func remaining(until expiry: Int64, _ now: Int64) -> Duration {
    let (seconds, overflow) = expiry.subtractingReportingOverflow(now)
    return .seconds(overflow ? expiryMax : min(seconds, expiryMax))
  }

  /// A time that no clock reaches, in seconds.
  private static let expiryMax: Int64 = 1 << 40

  // MARK: Writing

  /// Writes down what has changed; returns how many rows that were, those that went included.
  @discardableResult
  func write(_ memory: GrapeMemory) throws -> Int {
    let connection = try open()
    let now = WallClock.now().seconds
    let contacts = Set(memory.contacts)
    let hasNewContacts = contacts != lastContacts || memory.ids != lastIDs
    guard hasNewContacts || memory.hasNews else { return 0 }
    let before = connection.changeCount
    try connection.execute("BEGIN IMMEDIATE")
    do throws(SQLiteError) {
      if hasNewContacts { try Self.write(memory.contacts, memory.ids, to: connection) }
      try writePeers(of: memory, now: now, to: connection)
      if memory.replacesItems { try connection.execute("DELETE FROM items") }
      try connection.run(
        "DELETE FROM items WHERE target = ?", memory.removedItems.map { [.blob($0)] })
      try Self.write(memory.items, now: now, to: connection)
      try connection.execute("COMMIT")
    } catch {
      try? connection.execute("ROLLBACK")
      throw error
    }
    lastContacts = contacts
    lastIDs = memory.ids
    return connection.changeCount - before
  }

  private static func write(
    _ contacts: [DHTContact], _ ids: DHTNodeIDs, to connection: SQLiteConnection
  ) throws(SQLiteError) {
    try connection.run(
      "INSERT OR REPLACE INTO ids (family, id) VALUES (?, ?)",
      [[.integer(4), .blob(ids.ipv4.bytes)], [.integer(6), .blob(ids.ipv6.bytes)]])
    try connection.execute("DELETE FROM contacts")
    try connection.run(
      "INSERT OR REPLACE INTO contacts (id, address) VALUES (?, ?)",
      contacts.map { [.blob($0.id.bytes), .blob($0.address.compact)] })
  }

  private func writePeers(
    of memory: GrapeMemory, now: Int64, to connection: SQLiteConnection
  ) throws(SQLiteError) {
    if memory.replacesPeers { try connection.execute("DELETE FROM peers") }
    try connection.run(
      "DELETE FROM peers WHERE key = ?", memory.changedKeys.map { [.blob($0)] })
    if now - sweptAt >= Self.sweepSeconds {
      try connection.run(
        "DELETE FROM peers WHERE expiry <= ?", [[.integer(now - Self.sweepSeconds)]])
      sweptAt = now
    }
    try connection.run(
      """
      INSERT OR REPLACE INTO peers (key, address, expiry, own, caller) VALUES (?, ?, ?, ?, ?)
      """,
      memory.peers.map { kept in
        [
          .blob(kept.key), .blob(kept.peer.compact), .integer(Self.expiry(kept.remaining, now)),
          .integer(kept.isOwn ? 1 : 0), .blob(kept.caller?.bytes ?? []),
        ]
      })
  }

  private static func write(
    _ items: [DHTNode.KeptItem], now: Int64, to connection: SQLiteConnection
  ) throws(SQLiteError) {
    guard !items.isEmpty else { return }
    try connection.run(
      """
      INSERT OR REPLACE INTO items
      (target, value, publicKey, salt, sequence, signature, expiry, own, owner, caller)
      VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
      """,
      items.map { kept in
        let signature = kept.item.signature
        return [
          .blob(kept.target), .blob(kept.item.value), .blob(signature?.publicKey ?? []),
          .blob(signature?.salt ?? []), .integer(signature?.sequence ?? 0),
          .blob(signature?.signature ?? []), .integer(Self.expiry(kept.remaining, now)),
          .integer(kept.isOwn ? 1 : 0),
          .blob(kept.owner.map { DHTAddress(host: $0, port: 0).compact } ?? []),
          .blob(kept.caller?.bytes ?? []),
        ]
      })
  }

  private static func expiry(_ remaining: Duration, _ now: Int64) -> Int64 {
    now + min(max(remaining.components.seconds, 0), expiryMax)
  }

  // MARK: Behind

  /// Writes down what `source` gives, again and again, until the task is cancelled.
  func run(from source: Source) async {
    while (try? await Task.sleep(for: Self.pause(after: failures))) != nil {
      await writeOnce(from: source, isLast: false)
    }
  }

  /// Writes down what is left, when nothing more will come, and closes the file.
  func finish(from source: Source) async {
    await writeOnce(from: source, isLast: true)
    // A damaged file has been replaced.
    if failures > 0 { await writeOnce(from: source, isLast: true) }
    connection = nil
  }

  /// How long is waited before the next attempt: what is full or broken is not helped by haste, and each
  /// attempt makes copies.
  static func pause(after failures: Int) -> Duration {
    min(pauseMax, interval * (1 << min(failures, 10)))
  }

  /// Writes down what is new; what could not be written is given back.
  private func writeOnce(from source: Source, isLast: Bool) async {
    var memory = await source.take(isLast)
    do {
      try write(memory)
      failures = 0
    } catch {
      // Told once, not at each attempt: a full disk is no reason to end.
      if failures == 0 { logger.error("state not written", metadata: ["error": "\(error)"]) }
      failures += 1
      if (error as? SQLiteError)?.isDamage == true {
        try? beginAnew(because: error)
        lastContacts = nil
        memory.replacesPeers = true
        memory.replacesItems = true
      }
      await source.giveBack(memory)
    }
  }
}
