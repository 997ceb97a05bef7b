/// Queries under way, by their transaction identifier.
struct Transactions: Sendable {
  /// Why a query was sent: who is told of its end.
  enum Purpose: Hashable, Sendable {
    /// To see whether a known contact lives.
    case ping
    /// To see whether a stranger is where it says.
    case verification
    case lookup(UInt64)
    case announce(UInt64)
  }
  struct Query: Sendable {
    let address: DHTAddress
    /// Who is expected to answer; `nil` for a bootstrap address.
    let id: NodeID?
    let purpose: Purpose
    let slowAt: Duration
    let deadline: Duration
    var isSlow = false
  }

  private var queries: [UInt16: Query] = [:]
  private var lastNumber: UInt16 = 0

  var count: Int { queries.count }

  /// Registers a query; its identifier, two bytes big-endian, is not in use.
  mutating func begin(_ query: Query) -> [UInt8] {
    repeat { lastNumber = lastNumber == .max ? 1 : lastNumber + 1 } while queries[lastNumber] != nil
    queries[lastNumber] = query
    return [UInt8(lastNumber >> 8), UInt8(lastNumber & 255)]
  }

  /// Ends the query that a response from `address` answers: the identifier and the IP address must fit,
  /// and so must the port, lest a neighbour behind the same address answers for another.
  mutating func end(_ transaction: [UInt8], from address: DHTAddress) -> Query? {
    guard transaction.count == 2 else { return nil }
    let number = UInt16(transaction[0]) << 8 | UInt16(transaction[1])
    guard let query = queries[number], query.address == address else { return nil }
    queries[number] = nil
    return query
  }

  /// Ends and returns the queries whose deadline has passed.
  mutating func expired(at now: Duration) -> [Query] {
    let expired = queries.filter { $0.value.deadline <= now }.sorted { $0.key < $1.key }
    for (number, _) in expired { queries[number] = nil }
    return expired.map(\.value)
  }

  /// The queries that have just become slow.
  mutating func becameSlow(at now: Duration) -> [Query] {
    var slow: [(UInt16, Query)] = []
    for (number, query) in queries where !query.isSlow && query.slowAt <= now {
      queries[number]?.isSlow = true
      slow.append((number, query))
    }
    return slow.sorted { $0.0 < $1.0 }.map(\.1)
  }

  var nextDeadline: Duration? {
    queries.values.lazy.map { $0.isSlow ? $0.deadline : $0.slowAt }.min()
  }
}
