/// The tables of a grape's state, and how a file of an earlier version gets those of this one.
///
/// The version of a file is SQLite's own `user_version`: 0 for what has none yet, too.
enum GrapeSchema {
  /// What this program writes.
  static let version: Int64 = 1

  /// Version 0.
  private static let tables = """
    CREATE TABLE IF NOT EXISTS ids (family INTEGER PRIMARY KEY, id BLOB NOT NULL);
    CREATE TABLE IF NOT EXISTS contacts (id BLOB PRIMARY KEY, address BLOB NOT NULL);
    CREATE TABLE IF NOT EXISTS peers (
      key BLOB NOT NULL, address BLOB NOT NULL, expiry INTEGER NOT NULL,
      PRIMARY KEY (key, address));
    CREATE TABLE IF NOT EXISTS items (
      target BLOB PRIMARY KEY, value BLOB NOT NULL, publicKey BLOB NOT NULL, salt BLOB NOT NULL,
      sequence INTEGER NOT NULL, signature BLOB NOT NULL, expiry INTEGER NOT NULL,
      own INTEGER NOT NULL);
    """

  /// What leads from each version to the next one.
  private static let steps = [
    // For whom announcements and values are counted, so that limits outlast a restart.
    """
    ALTER TABLE peers ADD COLUMN own INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE peers ADD COLUMN caller BLOB NOT NULL DEFAULT X'';
    ALTER TABLE items ADD COLUMN owner BLOB NOT NULL DEFAULT X'';
    ALTER TABLE items ADD COLUMN caller BLOB NOT NULL DEFAULT X'';
    """
  ]

  /// Gives a file its tables, all of them or none.
  ///
  /// - Throws: `SQLiteError`; `GrapeError` for a file of a later version, which is left as it is.
  static func upgrade(_ connection: SQLiteConnection, _ path: String) throws {
    try connection.execute("BEGIN IMMEDIATE")
    do {
      guard case .integer(let found)? = try connection.rows("PRAGMA user_version").first?.first,
        (0...version).contains(found)
      else {
        throw GrapeError(
          .stateUnusable, "the state \(path) is that of a later version of the grape")
      }
      if found < version {
        try connection.execute(tables)
        for step in steps.dropFirst(Int(found)) { try connection.execute(step) }
        try connection.execute("PRAGMA user_version=\(version)")
      }
      try connection.execute("COMMIT")
    } catch {
      try? connection.execute("ROLLBACK")
      throw error
    }
  }
}
