internal import Grenache
internal import GrenacheIO
internal import GrenacheTransport

/// Clients and workers through deaths, restarts, silence, overload and lookups that are old, all drawn from
/// one seed, and what has to hold through it and afterwards (P41 for link and RPC; P28, P32, P33, P34, P39).
package final class CallScenario {
  /// What befalls the workers.
  private enum Kind: CaseIterable {
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
  private var lastID = 0
  private var made = 0
  private var begun: [Int: Int] = [:]
  private var isIdempotent: [Int: Bool] = [:]
  private var underWay: Set<Int> = []
  private var healthySince = MonotonicTime(nanoseconds: .max)
  private var faults: [String] = []

  /// What has gone wrong; empty when everything held. Equal seeds give equal digests.
  package static func run(seed: UInt64) -> (faults: [String], digest: UInt64) {
    let scenario = CallScenario(seed: seed)
    scenario.live()
    scenario.heal()
    scenario.check()
    return (scenario.faults, scenario.timeline.digest)
  }

  private init(seed: UInt64) {
    timeline = Timeline(seed: seed)
    network = CallNetwork(timeline)
    kind = Kind.allCases[timeline.random(0...2)]
    burstMax = kind == .storm ? timeline.random(0...10) : 100
    network.latencyMs = 1...timeline.random(1...40)
    for number in 0..<timeline.random(kind == .storm ? 1...6 : 3...6) {
      let server = SimulatedServer(
        Endpoint(host: "10.0.0.\(number + 1)", port: 4_000), timeline)
      server.began = { [self] call in began(call) }
      server.violated = { [self] fault in faults.append(fault) }
      server.workMs = 1...timeline.random(1...60)
      network.add(server)
    }
    for _ in 0..<timeline.random(1...3) {
      clients.append(SimulatedClient(network, burstMax: burstMax))
    }
  }

  // MARK: Calls

  private func began(_ call: SimulatedCall) {
    begun[call.id, default: 0] += 1
    if begun[call.id] ?? 0 > 1, !call.isIdempotent {
      faults.append("call \(call.id) is not idempotent and was carried out twice")
    }
  }

  private func makeCall() {
    lastID += 1
    made += 1
    let idempotent = timeline.chance(50)
    let now = timeline.now
    let isHurried = kind == .storm && now < healthySince
    var call = SimulatedCall(
      id: lastID, isIdempotent: idempotent, begun: now,
      deadline: now + (isHurried ? timeline.milliseconds(50...4_000) : .seconds(10)))
    if isHurried, timeline.chance(50) { call.attemptTimeout = timeline.milliseconds(20...500) }
    underWay.insert(call.id)
    clients[timeline.random(0...clients.count - 1)].call(call) { [self] error in
      ended(call, error)
    }
  }

  private func ended(_ call: SimulatedCall, _ error: GrenacheError?) {
    timeline.note(call.id)
    guard underWay.remove(call.id) != nil else {
      return faults.append("call \(call.id) ends twice")
    }
    if timeline.now > call.deadline { faults.append("call \(call.id) ends late") }
    guard let error else { return }
    timeline.note(error.code.description.count)
    let what = "call \(call.id)\(call.isIdempotent ? ", idempotent," : "") fails: \(error.code)"
    switch kind {
    case .rolling:
      faults.append(what)
    case .deaths where call.isIdempotent || error.code != .connectionLost:
      faults.append(what)
    case .deaths:
      break
    case .storm:
      if call.begun >= healthySince { faults.append("\(what) with everybody healthy") }
    }
  }

  // MARK: Faults

  private func live() {
    timeline.run(for: .seconds(3))
    for _ in 0..<timeline.random(5...15) {
      befall()
      for _ in 0..<timeline.random(5...30) {
        timeline.after(timeline.milliseconds(0...4_000)) { [self] in makeCall() }
      }
      timeline.run(for: kind == .storm ? timeline.milliseconds(100...5_000) : .seconds(5))
    }
  }

  private func befall() {
    let server = network.servers[timeline.random(0...network.servers.count - 1)]
    switch kind {
    case .rolling: drainAndRestart(server)
    case .deaths: killAndRestart(server)
    case .storm: storm(server)
    }
  }

  private func storm(_ server: SimulatedServer) {
    switch timeline.random(0...6) {
    case 0: killAndRestart(server)
    case 1: drainAndRestart(server)
    case 2: server.isSilent.toggle()
    case 3: server.callsMax = timeline.random(0...5)
    case 4: server.workMs = 1...timeline.random(1...5_000)
    case 5: network.isGrapeDown.toggle()
    default: network.lag = timeline.milliseconds(0...60_000)
    }
  }

  private func killAndRestart(_ server: SimulatedServer) {
    server.kill()
    network.withdraw(server)
    restart(server, after: timeline.milliseconds(100...3_000))
  }

  private func drainAndRestart(_ server: SimulatedServer) {
    server.drain()
    network.withdraw(server)
    restart(server, after: timeline.milliseconds(500...3_000))
  }

  private func restart(_ server: SimulatedServer, after time: Duration) {
    timeline.after(time) { [self] in
      server.kill()
      server.restart()
      network.announce(server)
    }
  }

  // MARK: What has to hold

  private func heal() {
    network.isGrapeDown = false
    network.lag = .milliseconds(500)
    for server in network.servers {
      server.callsMax = 1_000
      server.workMs = 1...20
      server.isSilent = false
      // Connections on which something was lost in silence are given up by their keep-alive.
      server.kill()
      server.restart()
      network.announce(server)
    }
    // Longer than old lookups are used, and than anybody sits out.
    timeline.run(for: .seconds(180))
    healthySince = timeline.now
    for number in 0..<100 {
      timeline.after(.milliseconds(100) * number) { [self] in makeCall() }
    }
    timeline.run(for: .seconds(30))
  }

  private func check() {
    if !underWay.isEmpty { faults.append("\(underWay.count) calls never end") }
    for (number, client) in clients.enumerated() where !client.isIdle {
      faults.append("client \(number) still counts calls")
    }
    for server in network.servers where !server.isIdle {
      faults.append("\(server.endpoint) still counts calls")
    }
    let sent = begun.values.reduce(0, +)
    if sent > made + made / 10 + clients.count * (burstMax + 1) {
      faults.append("\(made) calls were carried out \(sent) times")
    }
  }
}
