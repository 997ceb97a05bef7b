import DHTSimulation
import TestSupport
import Testing

@testable import GrenacheDHT

@Suite("How long a lookup waits for whom")
struct LookupTimeTests {
  private let configuration = DHTConfiguration()

  private func known(_ smoothed: Int, _ variation: Int) -> RoundTrip {
    RoundTrip(smoothed: .milliseconds(smoothed), variation: .milliseconds(variation))
  }

  @Test("late by the node's own round trips, else by those of all; never after slow; 25 to 400 ms")
  func estimates() {
    var estimator = RoundTripEstimator()
    #expect(estimator.isEmpty)
    #expect(estimator.lateAfter(known: nil, configuration) == .milliseconds(400))
    #expect(estimator.slowAfter(known: nil, configuration) == .milliseconds(400))
    #expect(estimator.lateAfter(known: known(40, 5), configuration) == .milliseconds(60))
    // All of them: 50 ms, give or take 10.
    for sample in [40, 60] as [Int] + Array(repeating: [40, 60], count: 50).flatMap(\.self) {
      estimator.note(.milliseconds(sample))
    }
    let (late, slow) = (
      estimator.lateAfter(known: nil, configuration),
      estimator.slowAfter(known: nil, configuration)
    )
    #expect((.milliseconds(65)...(.milliseconds(75))).contains(late))
    #expect((.milliseconds(85)...(.milliseconds(95))).contains(slow))
    #expect(estimator.lateAfter(known: known(10, 5), configuration) == .milliseconds(30))
    #expect(estimator.slowAfter(known: known(10, 5), configuration) == slow)
    #expect(estimator.lateAfter(known: known(1, 0), configuration) == .milliseconds(25))
    for (far, late, slow) in [
      (known(100, 5), 120, 120), (known(100, 50), 142, 300), (known(900, 25), 400, 400),
    ] {
      let slowAfter = estimator.slowAfter(known: far, configuration)
      #expect(slowAfter == .milliseconds(slow))
      let lateAfter = estimator.lateAfter(known: far, configuration)
      #expect((.milliseconds(late)...(.milliseconds(late + 1))).contains(lateAfter))
    }
  }

  @Test("a query is told of when it is late, slow and over, once each, in the order of sending")
  func stages() {
    var generator = SeededGenerator(seed: 1)
    var transactions = Transactions(sha1: { simulatedHash($0, count: 20) }, using: &generator)
    func begin(_ port: UInt16, late: Int, slow: Int) {
      _ = transactions.begin(
        Transactions.Query(
          DHTAddress(ip: 1, port: port), id: nil, .lookup(1), sentAt: .milliseconds(Int(port)),
          late: .milliseconds(late), slow: .milliseconds(slow), timeout: .seconds(2)))
    }
    func due(_ milliseconds: Int) -> [[UInt16]] {
      let due = transactions.due(at: .milliseconds(milliseconds))
      return [due.late, due.slow, due.expired].map { $0.map(\.address.port) }
    }
    begin(1, late: 400, slow: 400)
    begin(2, late: 400, slow: 400)
    #expect(transactions.nextDeadline == .milliseconds(401))
    transactions.hasten(late: .milliseconds(100), slow: .milliseconds(200))
    begin(3, late: 500, slow: 600)
    #expect(due(100) == [[], [], []])
    #expect(due(101) == [[1], [], []])
    #expect(due(150) == [[2], [], []])
    #expect(due(201) == [[], [1], []])
    #expect(due(299) == [[], [2], []])
    #expect(transactions.nextDeadline == .milliseconds(503))
    #expect(due(700) == [[], [3], []], "both at once: slow")
    #expect(due(2_002) == [[], [], [1, 2]])
    #expect(due(9_000) == [[], [], [3]] && transactions.count == 0)
  }

  @Test("however many queries nobody answers, what is due is looked for every 2 ms at most")
  func resolution() {
    var generator = SeededGenerator(seed: 2)
    var transactions = Transactions(sha1: { simulatedHash($0, count: 20) }, using: &generator)
    for number in 0..<1_000 {
      let sentAt = Duration.microseconds(100 * number)
      _ = transactions.begin(
        Transactions.Query(
          DHTAddress(ip: 1, port: 1), id: nil, .lookup(1), sentAt: sentAt,
          late: .milliseconds(100), slow: .milliseconds(200), timeout: .seconds(2)))
    }
    var (late, slow, expired, looks) = (0, 0, 0, 0)
    while let next = transactions.nextDeadline {
      let due = transactions.due(at: next)
      (late, slow, expired) = (
        late + due.late.count, slow + due.slow.count, expired + due.expired.count
      )
      looks += 1
    }
    #expect((late, slow, expired) == (1_000, 1_000, 1_000))
    #expect(looks <= 3 * 51, "100 ms of each kind")
  }

  @Test("beside a late node another is asked, but none further away than 20; its answer counts")
  func places() {
    var configuration = configuration
    configuration.checksNodeIDs = false
    configuration.parallelism = 2
    configuration.bucketSize = 4
    let target = NodeID(prefixOf: [])
    var generator = SeededGenerator(seed: 3)
    let contacts = (0..<6).map { number in
      DHTContact(
        id: target.sharing(100 - number, using: &generator),
        address: DHTAddress(ip: 0x3000_0001 + UInt32(number) << 16, port: 1))
    }
    var lookup = Lookup(
      target: target, own: NodeID(prefixOf: [255]), configuration, contacts: contacts,
      bootstrap: [])
    var asked: [DHTAddress] = []
    func ask() { while let next = lookup.next() { asked.append(next.address) } }
    ask()
    #expect(asked == contacts[0..<2].map(\.address))
    lookup.queryLate(contacts[0].address)
    lookup.queryLate(contacts[1].address)
    ask()
    #expect(asked == contacts[0..<4].map(\.address))
    for contact in contacts[2..<4] { lookup.answerReceived(from: contact, token: [1], nodes: []) }
    ask()
    #expect(asked.count == 4, "the late ones are among the four nearest")
    #expect(!lookup.isFinished, "what nobody has found may be with them")
    let sources = Set(contacts.map(\.address))
    #expect(lookup.settledNetworks(among: sources) == 2, "what is found waits not")
    lookup.answerReceived(from: contacts[0], token: [1], nodes: [])
    lookup.querySlow(contacts[1].address)
    ask()
    #expect(asked == contacts[0..<5].map(\.address), "in place of one that is slow")
    lookup.answerReceived(from: contacts[4], token: [1], nodes: [])
    #expect(lookup.isFinished && lookup.tokens.count == 4)
  }

  @Test("two dead nodes nearest to the key: what is found waits for no further round")
  func deadNearest() throws {
    for seed in 70..<75 as Range<UInt64> {
      var network = network(20, seed: seed)
      let key: [UInt8] = [1]
      _ = network.outcome(of: key, port: 5, at: 3)
      let target = NodeID(prefixOf: key)
      let others = (0..<20).filter { $0 != 3 && $0 != 10 }
      let nearest = others.compactMap { number in
        network.node(number).map { (target.distance(to: $0.id), number) }
      }.sorted { $0.0 < $1.0 }
      for (_, number) in nearest.prefix(2) { network.stop(number) }
      let start = network.now
      #expect(network.result(of: key, at: 10)?.peers.count == 1)
      // A round trip is 40 to 60 ms.
      #expect(network.now - start < .milliseconds(95), "seed \(seed)")
    }
  }
}
