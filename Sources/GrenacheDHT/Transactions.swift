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
    case withdrawal(UInt64)
  }
  struct Query: Sendable {
    let address: DHTAddress
    /// Who is expected to answer; `nil` for a bootstrap address.
    let id: NodeID?
    let purpose: Purpose
    let sentAt: Duration
    fileprivate(set) var lateAt: Duration
    fileprivate(set) var slowAt: Duration
    let deadline: Duration
    fileprivate var stage = Stage.waiting
    fileprivate var tag: UInt32 = 0

    init(
      _ address: DHTAddress, id: NodeID?, _ purpose: Purpose, sentAt: Duration, late: Duration,
      slow: Duration, timeout: Duration
    ) {
      (self.address, self.id, self.purpose, self.sentAt) = (address, id, purpose, sentAt)
      (lateAt, slowAt, deadline) = (sentAt + late, sentAt + slow, sentAt + timeout)
    }

    /// When something is to be told of it next.
    fileprivate var nextAt: Duration {
      switch stage {
      case .waiting: min(lateAt, slowAt, deadline)
      case .late: min(slowAt, deadline)
      case .slow: deadline
      }
    }
  }
  fileprivate enum Stage { case waiting, late, slow }

  /// A number and what nobody can guess: an answer with a forged source does not know it.
  static let identifierBytes = 6
  /// What is due is looked for no more often than this: that looks at all queries, and whoever does not
  /// answer could make it as often as there are queries.
  static let resolution = Duration.milliseconds(2)

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
    nextDeadline = min(nextDeadline ?? query.nextAt, query.nextAt)
    var identifier: [UInt8] = []
    identifier.reserveCapacity(Self.identifierBytes)
    identifier.append(bigEndian: UInt64(lastNumber), count: 2)
    identifier.append(bigEndian: UInt64(query.tag), count: 4)
    return identifier
  }

  private mutating func takeTag() -> UInt32 {
    tagsMade &+= 1
    var bytes: [UInt8] = []
    bytes.reserveCapacity(secret.count + 8)
    bytes += secret
    bytes.append(bigEndian: tagsMade, count: 8)
    return sha1(bytes).prefix(4).reduce(0) { $0 << 8 | UInt32($1) }
  }

  /// Ends the query that a response from `address` answers: the identifier and the IP address must fit,
  /// and so must the port, lest a neighbour behind the same address answers for another.
  mutating func end(_ transaction: [UInt8], from address: DHTAddress) -> Query? {
    guard transaction.count == Self.identifierBytes else { return nil }
    let identifier = transaction.reduce(0) { $0 << 8 | UInt64($1) }
    let number = UInt16(truncatingIfNeeded: identifier >> 32)
    guard let query = queries[number], query.address == address,
      query.tag == UInt32(truncatingIfNeeded: identifier)
    else { return nil }
    queries[number] = nil
    if queries.isEmpty { nextDeadline = nil }
    return query
  }

  /// Queries that were sent when nothing was known yet are late and slow after these times at the latest.
  mutating func hasten(late: Duration, slow: Duration) {
    for (number, query) in queries {
      let (lateAt, slowAt) = (query.sentAt + late, query.sentAt + slow)
      queries[number]?.lateAt = min(query.lateAt, lateAt)
      queries[number]?.slowAt = min(query.slowAt, slowAt)
      nextDeadline = min(nextDeadline ?? lateAt, lateAt, slowAt)
    }
  }

  /// What is due.
  struct Due {
    /// Queries that have just become late, and slow.
    var late: [Query] = []
    var slow: [Query] = []
    /// Those, ended, whose deadline has passed.
    var expired: [Query] = []
  }

  /// What is due, in the order in which it was sent, or a seed would not replay a simulation.
  mutating func due(at now: Duration) -> Due {
    var result = Due()
    guard let next = nextDeadline, next <= now else { return result }
    var due: [(number: UInt16, query: Query)] = []
    nextDeadline = nil
    for (number, var query) in queries {
      if query.nextAt <= now {
        query.stage = query.slowAt <= now ? .slow : .late
        due.append((number, query))
        guard query.deadline > now else { continue }
      }
      nextDeadline = min(nextDeadline ?? query.nextAt, query.nextAt)
    }
    nextDeadline = nextDeadline.map { max($0, now + Self.resolution) }
    due.sort { ($0.query.sentAt, $0.number) < ($1.query.sentAt, $1.number) }
    for (number, query) in due {
      if query.deadline <= now {
        queries[number] = nil
        result.expired.append(query)
      } else {
        queries[number] = query
        if query.stage == .slow { result.slow.append(query) } else { result.late.append(query) }
      }
    }
    return result
  }
}
