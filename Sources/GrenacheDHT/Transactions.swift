/// Queries under way, by their transaction identifier.
struct Transactions: Sendable {
  /// Why a query was sent: who is told of its end.
  enum Purpose: Hashable, Sendable {
    /// To see whether a known contact lives.
    case ping
    /// To see whether a stranger is where it says.
    case verification
    case lookup(UInt64)
    case delivery(UInt64)
  }
  struct Query: Sendable {
    let address: DHTAddress
    /// Who is expected to answer; `nil` for a bootstrap address.
    let id: NodeID?
    let purpose: Purpose
    let sentAt: Duration
    let slowAt: Duration
    let deadline: Duration
    var isSlow = false
  }

  private var queries: [UInt16: Query] = [:]
  private var lastNumber: UInt16 = 0
  /// Not later than anything that is to happen; looking too early does no harm.
  private(set) var nextDeadline: Duration?

  var count: Int { queries.count }

  /// Registers a query; its identifier, two bytes big-endian, is not in use.
  mutating func begin(_ query: Query) -> [UInt8] {
    repeat { lastNumber = lastNumber == .max ? 1 : lastNumber + 1 } while queries[lastNumber] != nil
    queries[lastNumber] = query
    nextDeadline = min(nextDeadline ?? query.slowAt, query.slowAt)
    return [UInt8(lastNumber >> 8), UInt8(lastNumber & 255)]
  }

  /// Ends the query that a response from `address` answers: the identifier and the IP address must fit,
  /// and so must the port, lest a neighbour behind the same address answers for another.
  mutating func end(_ transaction: [UInt8], from address: DHTAddress) -> Query? {
    guard transaction.count == 2 else { return nil }
    let number = UInt16(transaction[0]) << 8 | UInt16(transaction[1])
    guard let query = queries[number], query.address == address else { return nil }
    queries[number] = nil
    if queries.isEmpty { nextDeadline = nil }
    return query
  }

  /// The queries that have just become slow, and those, ended, whose deadline has passed; in the order
  /// in which they were sent, or a seed would not replay a simulation.
  mutating func due(at now: Duration) -> (slow: [Query], expired: [Query]) {
    guard let next = nextDeadline, next <= now else { return ([], []) }
    var due: [(number: UInt16, query: Query)] = []
    nextDeadline = nil
    for (number, query) in queries {
      let time = query.isSlow ? query.deadline : query.slowAt
      if time <= now { due.append((number, query)) }
      let later = time <= now ? query.deadline : time
      if later > now { nextDeadline = min(nextDeadline ?? later, later) }
    }
    due.sort { ($0.query.sentAt, $0.number) < ($1.query.sentAt, $1.number) }
    var slow: [Query] = []
    var expired: [Query] = []
    for (number, query) in due {
      if query.deadline <= now {
        queries[number] = nil
        expired.append(query)
      } else {
        queries[number]?.isSlow = true
        slow.append(query)
      }
    }
    return (slow, expired)
  }
}
