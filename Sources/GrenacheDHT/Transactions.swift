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
    fileprivate(set) var tag: [UInt8] = []
  }

  /// A number and what nobody can guess: an answer with a forged source does not know it.
  static let identifierBytes = 2 + tagBytes
  private static let tagBytes = 4

  private var queries: [UInt16: Query] = [:]
  private var lastNumber: UInt16 = 0
  /// What the tags are derived from.
  private let secret: [UInt8]
  private var tagsMade: UInt64 = 0
  private let sha1: @Sendable ([UInt8]) -> [UInt8]
  /// Not later than anything that is to happen; looking too early does no harm.
  private(set) var nextDeadline: Duration?

  init(
    sha1: @escaping @Sendable ([UInt8]) -> [UInt8],
    using generator: inout some RandomNumberGenerator
  ) {
    self.sha1 = sha1
    secret = (0..<20).map { _ in UInt8.random(in: 0...255, using: &generator) }
  }

  var count: Int { queries.count }

  /// Registers a query. Its identifier, a number that is not in use and a tag, is to be echoed byte for
  /// byte (BEP 5).
  mutating func begin(_ query: Query) -> [UInt8] {
    repeat { lastNumber = lastNumber == .max ? 1 : lastNumber + 1 } while queries[lastNumber] != nil
    var query = query
    query.tag = takeTag()
    queries[lastNumber] = query
    nextDeadline = min(nextDeadline ?? query.slowAt, query.slowAt)
    return [UInt8(lastNumber >> 8), UInt8(lastNumber & 255)] + query.tag
  }

  private mutating func takeTag() -> [UInt8] {
    tagsMade &+= 1
    var bytes = secret
    bytes.append(bigEndian: tagsMade, count: 8)
    return Array(sha1(bytes).prefix(Self.tagBytes))
  }

  /// Ends the query that a response from `address` answers: the identifier and the IP address must fit,
  /// and so must the port, lest a neighbour behind the same address answers for another.
  mutating func end(_ transaction: [UInt8], from address: DHTAddress) -> Query? {
    guard transaction.count == Self.identifierBytes else { return nil }
    let number = UInt16(transaction[0]) << 8 | UInt16(transaction[1])
    guard let query = queries[number], query.address == address,
      transaction.dropFirst(2).elementsEqual(query.tag)
    else { return nil }
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
