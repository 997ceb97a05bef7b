internal import Grenache
internal import GrenacheIO
internal import GrenacheTransport

/// Clients and workers through deaths, restarts, moves, silence, partitions, overload, and grapes that are
/// gone, hang, answer nonsense or what was true once, with clocks that disagree, all drawn from one seed
/// (P41 for link and RPC). What has to hold:
///
/// - P2: a call ends once, and by its deadline on its caller's clock.
/// - P28: while workers die one at a time, no idempotent call fails, and others only with the connection.
/// - P32: no worker begins work past its deadline, or goes on with it when it can hear of nobody any more,
///   however wrong the clocks are.
/// - P33: a call that is over, a hedged one's other half too, has no handler left after one way and 10 ms.
/// - P34: retries and hedges are a tenth of a client's calls and what was saved up, at most; no worker is
///   sent a call twice, and none but idempotent calls are carried out twice.
/// - P39: while workers end in order one at a time, and come back elsewhere or in their place, no call fails.
/// - A hedged call is over with its first answer.
/// - A map calls each of the workers, or as many as its limit says, once, not more of them at the same time
///   than it may, and has a result of each; those who are well answer.
/// - One grape that is well suffices.
/// - When everything is well again, every call succeeds; then nothing is left of any.
package final class CallScenario {
  /// What befalls the workers.
  package enum Kind: CaseIterable, Sendable {
    /// They end in order and come back: no call may fail.
    case rolling
    /// They die one at a time: no idempotent call may fail.
    case deaths
    /// Everything.
    case storm
  }

  private let timeline: Timeline
  private let network: CallNetwork
  private let kind: Kind
  private var clients: [SimulatedClient] = []
  private let burstMax: Int
  private let hedgePercent: Int
  private let movePercent: Int
  private let grapePercent: Int
  private var lastID = 0
  private var lastPort: UInt16 = 4_000
  /// Except in a storm nothing befalls this one.
  private let wellGrape: Int
  /// By client: calls that were made, and calls that came to a worker.
  private var made: [Int: Int] = [:]
  private var received: [Int: Int] = [:]
  private var begun: [Int: Int] = [:]
  private var underWay: Set<Int> = []
  /// The latest time at which a worker was not well.
  private var troubled: [Endpoint: MonotonicTime] = [:]
  private var healthySince = MonotonicTime(nanoseconds: .max)
  private var faults: [String] = []

  /// What has gone wrong; empty when everything held. Equal seeds give equal digests.
  package static func run(seed: UInt64) -> (faults: [String], digest: UInt64) {
    run(seed: seed, kind: nil)
  }

  /// - Parameter kind: without it one that the seed chooses.
  package static func run(seed: UInt64, kind: Kind?) -> (faults: [String], digest: UInt64) {
    let scenario = CallScenario(seed: seed, kind)
    scenario.live()
    scenario.heal()
    scenario.check()
    scenario.timeline.clear()
    for server in scenario.network.servers { server.tell = { _ in } }
    return (scenario.faults, scenario.timeline.digest)
  }

  private init(seed: UInt64, _ kind: Kind?) {
    timeline = Timeline(seed: seed)
    network = CallNetwork(timeline, grapes: timeline.random(1...3))
    wellGrape = timeline.random(0...network.grapes.count - 1)
    let drawn = Kind.allCases[timeline.random(0...2)]
    self.kind = kind ?? drawn
    burstMax = self.kind == .storm ? timeline.random(0...10) : 100
    hedgePercent = timeline.random(0...100)
    movePercent = timeline.random(0...100)
    grapePercent = timeline.random(0...40)
    network.latencyMs = 1...timeline.random(1...40)
    for _ in 0..<timeline.random(self.kind == .storm ? 1...6 : 3...6) { addServer(after: .zero) }
    for number in 0..<timeline.random(1...3) { addClient(number) }
  }

  @discardableResult
  private func addServer(after lag: Duration? = nil) -> SimulatedServer {
    lastPort += 1
    let server = SimulatedServer(Endpoint(host: "10.0.0.1", port: lastPort), timeline)
    server.workMs = 1...timeline.random(1...60)
    server.tell = { [self] event in
      switch event {
      case .received(let call): received[call.client, default: 0] += 1
      case .began(let call): began(call)
      case .violated(let fault): faults.append(fault)
      }
    }
    network.add(server, after: lag)
    return server
  }

  private func addClient(_ number: Int) {
    let client = SimulatedClient(number, network, burstMax: burstMax)
    client.workers.outlived = { [self] call in
      faults.append("call \(call.id) is over, and its handler runs on")
    }
    client.ignored = { [self] call in faults.append("call \(call.id) goes on after an answer") }
    client.workers.sentAgain = { [self] call in
      faults.append("call \(call.id) is sent twice to one worker")
    }
    clients.append(client)
  }

  // MARK: Calls

  private func began(_ call: SimulatedCall) {
    begun[call.id, default: 0] += 1
    if begun[call.id] ?? 0 > 1, !call.isIdempotent {
      faults.append("call \(call.id) is not idempotent and was carried out twice")
    }
    // It was on its way, and waited for its turn; what is left of its time shrinks by a wrong clock.
    let late = clients[call.client].clock.now - call.deadline
    if late > .milliseconds(network.latencyMs.upperBound + 5) + call.time * 0.05 {
      faults.append("call \(call.id) begins \(late) after its caller's deadline")
    }
  }

  private var isHurried: Bool { kind == .storm && timeline.now < healthySince }

  private func draw(_ client: Int) -> SimulatedCall {
    lastID += 1
    let time = isHurried ? timeline.milliseconds(50...4_000) : .seconds(10)
    var call = SimulatedCall(
      id: lastID, client: client, isIdempotent: timeline.chance(50),
      deadline: clients[client].clock.now + time, time: time)
    if isHurried, timeline.chance(50) { call.attemptTimeout = timeline.milliseconds(20...500) }
    if timeline.chance(hedgePercent) { call.hedgeDelay = timeline.milliseconds(1...100) }
    if timeline.chance(10) { call.cancelledAfter = timeline.milliseconds(0...200) }
    return call
  }

  private func makeCall() {
    let client = timeline.random(0...clients.count - 1)
    if timeline.chance(5) { return makeMap(client) }
    let call = draw(client)
    let begun = timeline.now
    made[client, default: 0] += 1
    underWay.insert(call.id)
    clients[client].call(call) { [self] error in ended(call, error, begun) }
  }

  private func ended(_ call: SimulatedCall, _ error: GrenacheError?, _ begun: MonotonicTime) {
    timeline.note(call.id)
    guard underWay.remove(call.id) != nil else {
      return faults.append("call \(call.id) ends twice")
    }
    if clients[call.client].clock.now - call.deadline > .microseconds(1) {
      faults.append("call \(call.id) ends late")
    }
    guard let error else { return }
    timeline.note(error.code.description.count)
    if error.code == .cancelled, call.cancelledAfter != nil { return }
    let what = "call \(call.id)\(call.isIdempotent ? ", idempotent," : "") fails: \(error.code)"
    switch kind {
    case .rolling:
      faults.append(what)
    case .deaths where call.isIdempotent || error.code != .connectionLost:
      faults.append(what)
    case .deaths:
      break
    case .storm:
      if begun >= healthySince { faults.append("\(what) with everybody healthy") }
    }
  }

  private func makeMap(_ client: Int) {
    var call = draw(client)
    call.isOfMap = true
    call.isIdempotent = false
    let (begun, id) = (timeline.now, call.id)
    let limit = timeline.chance(50) ? timeline.random(0...4) : nil
    let concurrencyMax = timeline.random(1...4)
    underWay.insert(id)
    let ids: () -> Int = { [self] in
      lastID += 1
      made[client, default: 0] += 1
      return lastID
    }
    let count: (Int) -> Void = { [self] underWay in
      if underWay > concurrencyMax { faults.append("map \(id) calls \(underWay) at once") }
    }
    clients[client].map(
      call, limit: limit, concurrencyMax: concurrencyMax, ids: ids, began: count
    ) { [self] result in
      timeline.note(id)
      if underWay.remove(id) == nil { faults.append("map \(id) ends twice") }
      switch result {
      case .success(let results): mapped(id, limit, results, begun)
      case .failure(let error):
        if kind != .storm || begun >= healthySince { faults.append("map \(id): \(error.code)") }
      }
    }
  }

  private func mapped(
    _ id: Int, _ limit: Int?, _ results: [(Endpoint, GrenacheError?)], _ begun: MonotonicTime
  ) {
    if Set(results.map(\.0)).count != results.count {
      faults.append("map \(id) calls somebody twice")
    }
    if let limit, results.count > limit {
      faults.append("map \(id) calls \(results.count) of \(limit)")
    }
    for (worker, error) in results {
      guard let error else { continue }
      timeline.note(error.code.description.count)
      let isWell = begun > (troubled[worker] ?? begun) + .seconds(5)
      if (kind != .storm && isWell) || begun >= healthySince {
        faults.append("map \(id): \(worker), which is well, fails: \(error.code)")
      }
    }
    guard begun >= healthySince else { return }
    if results.count != min(limit ?? .max, network.servers.count) {
      faults.append("map \(id) has \(results.count) results of \(network.servers.count) workers")
    }
  }

  // MARK: Faults

  private func live() {
    timeline.run(for: .seconds(1))
    befallGrapes()
    timeline.run(for: .seconds(2))
    for _ in 0..<timeline.random(5...15) {
      timeline.after(.milliseconds(100)) { [self] in befall() }
      for _ in 0..<timeline.random(5...30) {
        // Half of them when it happens.
        let time = timeline.milliseconds(0...(timeline.chance(50) ? 300 : 4_000))
        timeline.after(time) { [self] in makeCall() }
      }
      timeline.run(for: kind == .storm ? timeline.milliseconds(100...5_000) : .seconds(5))
    }
  }

  private func befall() {
    let server = network.servers[timeline.random(0...network.servers.count - 1)]
    if timeline.chance(grapePercent) { befallGrapes() }
    switch kind {
    case .rolling: drainAndRestart(server)
    case .deaths: killAndRestart(server)
    case .storm: storm(server)
    }
  }

  /// Of all grapes one is always well, and one at most is behind, except in a storm.
  private func befallGrapes() {
    var isSomeoneStale = false
    for (index, grape) in network.grapes.enumerated() {
      var mood = SimulatedGrape.Mood.allCases[timeline.random(0...5)]
      if kind != .storm {
        if index == wellGrape || mood == .refusing { mood = .healthy }
        if mood == .stale, isSomeoneStale { mood = .erring }
        isSomeoneStale = isSomeoneStale || mood == .stale
      }
      grape.turn(mood)
    }
  }

  private func storm(_ server: SimulatedServer) {
    switch timeline.random(0...7) {
    case 0: killAndRestart(server)
    case 1: drainAndRestart(server)
    case 2: network.silence(server, !server.isSilent)
    case 3: server.callsMax = timeline.random(0...5)
    case 4: server.workMs = 1...timeline.random(1...5_000)
    case 5: befallGrapes()
    case 6: network.cut(timeline.random(0...clients.count - 1), server, timeline.chance(50))
    default: network.lagMs = 0...timeline.random(0...60_000)
    }
  }

  private func killAndRestart(_ server: SimulatedServer) {
    server.kill()
    network.announce(server)
    restart(server, after: timeline.milliseconds(100...3_000))
  }

  private func drainAndRestart(_ server: SimulatedServer) {
    server.drain()
    network.announce(server)
    restart(server, after: timeline.milliseconds(500...3_000))
  }

  /// It comes back in its place, or elsewhere.
  private func restart(_ server: SimulatedServer, after time: Duration) {
    let moves = timeline.chance(movePercent)
    let gone = MonotonicTime(nanoseconds: .max)
    troubled[server.endpoint] = moves ? gone : timeline.now + time
    timeline.after(time) { [self] in
      server.kill()
      if moves {
        network.remove(server)
        network.announce(server)
        addServer()
      } else {
        server.restart()
        network.announce(server)
      }
    }
  }

  // MARK: What has to hold

  private func heal() {
    for grape in network.grapes { grape.turn(.healthy) }
    network.healCuts()
    for server in network.servers {
      server.callsMax = 1_000
      server.workMs = 1...20
      network.silence(server, false)
      server.restart()
      network.announce(server)
    }
    // Longer than old lookups are used, than lags last, and than anybody sits out.
    timeline.run(for: .seconds(180))
    healthySince = timeline.now
    for number in 0..<100 {
      timeline.after(.milliseconds(100) * number) { [self] in makeCall() }
    }
    timeline.run(for: .seconds(30))
  }

  private func check() {
    if !underWay.isEmpty { faults.append("\(underWay.count) calls never end") }
    for (number, client) in clients.enumerated() {
      if !client.isIdle { faults.append("client \(number) still counts calls") }
      let (calls, sent) = (made[number] ?? 0, received[number] ?? 0)
      if sent > calls + calls / 10 + burstMax {
        faults.append("\(calls) calls of client \(number) came to workers \(sent) times")
      }
    }
    for server in network.servers {
      if let remains = server.remains { faults.append("\(server.endpoint) still \(remains)") }
    }
  }
}
