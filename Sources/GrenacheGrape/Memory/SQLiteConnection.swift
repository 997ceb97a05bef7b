internal import CSQLite

/// An error of SQLite: what was tried, and why it did not work.
struct SQLiteError: Error, CustomStringConvertible {
  let call: String
  let code: Int32
  let reason: String

  var description: String { "\(call): \(reason) (SQLite \(code))" }
  /// Whether the file is no database, a damaged one, or one with other tables: it is of no use. A full
  /// disk, or another program that holds a lock, will pass.
  var isDamage: Bool {
    [SQLITE_CORRUPT, SQLITE_NOTADB, SQLITE_ERROR, SQLITE_CONSTRAINT, SQLITE_MISMATCH]
      .contains(code & 0xff)
  }
}

/// A value of a column.
enum SQLiteValue {
  case integer(Int64)
  case blob([UInt8])
}

/// One connection to a database file, used by one thread at a time.
@safe
final class SQLiteConnection {
  private let handle: OpaquePointer

  init(path: String) throws(SQLiteError) {
    var handle: OpaquePointer?
    let flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX
    let code = unsafe sqlite3_open_v2(path, &handle, flags, nil)
    guard let handle = unsafe handle else {
      throw SQLiteError(call: "open \(path)", code: code, reason: "no memory")
    }
    unsafe self.handle = handle
    guard code == SQLITE_OK else { throw error("open \(path)", code) }
  }

  deinit { unsafe _ = sqlite3_close_v2(handle) }

  /// The rows that were changed, inserted or deleted so far.
  var changeCount: Int { Int(unsafe sqlite3_total_changes(handle)) }

  /// Runs statements that give nothing back.
  func execute(_ sql: String) throws(SQLiteError) {
    let code = unsafe sqlite3_exec(handle, sql, nil, nil, nil)
    guard code == SQLITE_OK else { throw error(sql, code) }
  }

  /// Runs one statement for each row of values.
  func run(_ sql: String, _ rows: [[SQLiteValue]]) throws(SQLiteError) {
    guard !rows.isEmpty else { return }
    let statement = try unsafe prepare(sql)
    defer { unsafe _ = sqlite3_finalize(statement) }
    for row in rows {
      unsafe try bind(row, to: statement, sql)
      let code = unsafe sqlite3_step(statement)
      guard code == SQLITE_DONE else { throw error(sql, code) }
      unsafe _ = sqlite3_reset(statement)
    }
  }

  /// Every row that a query gives.
  func rows(_ sql: String) throws(SQLiteError) -> [[SQLiteValue]] {
    let statement = try unsafe prepare(sql)
    defer { unsafe _ = sqlite3_finalize(statement) }
    var result: [[SQLiteValue]] = []
    while true {
      let code = unsafe sqlite3_step(statement)
      if code == SQLITE_DONE { return result }
      guard code == SQLITE_ROW else { throw error(sql, code) }
      let count = unsafe sqlite3_column_count(statement)
      result.append((0..<count).map { unsafe Self.value(statement, $0) })
    }
  }

  private func prepare(_ sql: String) throws(SQLiteError) -> OpaquePointer? {
    var statement: OpaquePointer?
    let code = unsafe sqlite3_prepare_v2(handle, sql, -1, &statement, nil)
    guard code == SQLITE_OK else { throw error(sql, code) }
    return unsafe statement
  }

  private func bind(
    _ row: [SQLiteValue], to statement: OpaquePointer?, _ sql: String
  ) throws(SQLiteError) {
    for (index, value) in row.enumerated() {
      let position = Int32(index + 1)
      let code: Int32
      switch value {
      case .integer(let number):
        code = unsafe sqlite3_bind_int64(statement, position, number)
      case .blob(let bytes):
        // SQLITE_TRANSIENT, a macro: SQLite makes a copy.
        let copies = unsafe unsafeBitCast(-1, to: sqlite3_destructor_type.self)
        code =
          unsafe bytes.isEmpty
          ? sqlite3_bind_zeroblob(statement, position, 0)
          : sqlite3_bind_blob(statement, position, bytes, Int32(bytes.count), copies)
      }
      guard code == SQLITE_OK else { throw error(sql, code) }
    }
  }

  private static func value(_ statement: OpaquePointer?, _ column: Int32) -> SQLiteValue {
    guard unsafe sqlite3_column_type(statement, column) != SQLITE_INTEGER else {
      return .integer(unsafe sqlite3_column_int64(statement, column))
    }
    let count = Int(unsafe sqlite3_column_bytes(statement, column))
    guard count > 0, let bytes = unsafe sqlite3_column_blob(statement, column) else {
      return .blob([])
    }
    return .blob(unsafe Array(UnsafeRawBufferPointer(start: bytes, count: count)))
  }

  private func error(_ call: String, _ code: Int32) -> SQLiteError {
    SQLiteError(
      call: call, code: code, reason: unsafe String(cString: sqlite3_errmsg(handle)))
  }
}
